"""`admin rooms`: see and delete rooms and messages."""

import typer

from chat_broker.cli.admin.options import (
    NO_REASON,
    AsJson,
    Limit,
    PageNumber,
    Reason,
    here,
    more,
    safe,
    say,
    show,
    table,
    the_broker,
)

rooms = typer.Typer(help="See and delete rooms and messages.", invoke_without_command=True)

_ROOM_COLUMNS = ["id", "name", "private", "member_count", "last_seq", "created_at"]


@rooms.callback()
def rooms_here(
    context: typer.Context, page: PageNumber = 1, limit: Limit = 50, as_json: AsJson = False
) -> None:
    """Without a command: list."""
    here(as_json)
    if context.invoked_subcommand is None:
        list_rooms(page, limit, as_json)


@rooms.command("list")
def list_rooms(page: PageNumber = 1, limit: Limit = 50, as_json: AsJson = False) -> None:
    """One page of all rooms."""
    with the_broker() as broker:
        found = broker.get("/admin/rooms", page=page, limit=limit)
    rows = [[room.get(name) for name in _ROOM_COLUMNS] for room in found["items"]]

    def display() -> None:
        table(_ROOM_COLUMNS, rows, nothing="no rooms")
        more(found)

    show(found, as_json, display)


@rooms.command("messages")
def list_messages(
    room: str, page: PageNumber = 1, limit: Limit = 50, as_json: AsJson = False
) -> None:
    """What was said in a room, newest first."""
    with the_broker() as broker:
        found = broker.get(broker.path("rooms", room, "messages"), page=page, limit=limit)
    columns = ["seq", "id", "username", "content", "created_at"]
    rows = [[message.get(name) for name in columns] for message in found["items"]]
    show(found, as_json, lambda: table(columns, rows, nothing="nothing was said"))


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
    """Empty a message."""
    with the_broker() as broker:
        broker.send("DELETE", broker.path("rooms", room, "messages", message), {"reason": reason})
    show({"deleted": message}, as_json, lambda: say(f"[green]deleted[/] {safe(message)}"))
