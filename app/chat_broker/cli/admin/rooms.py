"""`admin rooms`: see and delete rooms and messages."""

from chat_broker.cli.admin.options import (
    NO_REASON,
    AsJson,
    Limit,
    PageNumber,
    Reason,
    noun,
    safe,
    say,
    show,
    show_page,
    the_broker,
)

rooms = noun("See and delete rooms and messages.")

_ROOM_COLUMNS = ["id", "name", "private", "member_count", "last_seq", "created_at"]
_MESSAGE_COLUMNS = ["seq", "id", "username", "content", "created_at"]


@rooms.command("list")
def list_rooms(page: PageNumber = 1, limit: Limit = 50, as_json: AsJson = False) -> None:
    """One page of all rooms."""
    with the_broker() as broker:
        response = broker.get("/admin/rooms", page=page, limit=limit)
    show_page(response, as_json, _ROOM_COLUMNS, nothing="no rooms")


@rooms.command("messages")
def list_messages(
    room: str, page: PageNumber = 1, limit: Limit = 50, as_json: AsJson = False
) -> None:
    """The messages of a room, newest first."""
    with the_broker() as broker:
        response = broker.get(broker.path("rooms", room, "messages"), page=page, limit=limit)
    show_page(response, as_json, _MESSAGE_COLUMNS, nothing="nothing was said")


@rooms.command("delete")
def delete_room(room: str, reason: Reason = NO_REASON, as_json: AsJson = False) -> None:
    """Delete a room."""
    with the_broker() as broker:
        broker.send("DELETE", broker.path("rooms", room), {"reason": reason})
    show({"deleted": room}, as_json, lambda: say(f"[green]deleted[/] {safe(room)}"))


@rooms.command("delete-message")
def delete_message(
    room: str, message: str, reason: Reason = NO_REASON, as_json: AsJson = False
) -> None:
    """Delete a message; its place stays, empty."""
    with the_broker() as broker:
        broker.send("DELETE", broker.path("rooms", room, "messages", message), {"reason": reason})
    show({"deleted": message}, as_json, lambda: say(f"[green]deleted[/] {safe(message)}"))
