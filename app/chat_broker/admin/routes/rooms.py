"""Operators and rooms: list and delete any room and message."""

from fastapi import Request, Response

from chat_broker.admin.keys import AdminScope
from chat_broker.admin.requests import ROOMS_QUERY, read_search_text
from chat_broker.admin.routes.router import (
    admin_router,
    admin_services,
    audit_context,
    described,
    needs,
    query_of,
    read_reason,
)
from chat_broker.api.dependencies import MessageId, RoomName
from chat_broker.api.openapi import CURSOR, PAGE, PageOf
from chat_broker.api.requests import CURSORED, read_window
from chat_broker.api.responses import as_json, nothing
from chat_broker.chat import views

router = admin_router("admin: rooms")


@router.get("/rooms", **described(answer=PageOf(views.RoomView), parameters=PAGE))
@needs(AdminScope.ROOMS_READ, "rooms.list", ROOMS_QUERY)
async def list_rooms(request: Request) -> Response:
    """One page of all rooms, private ones included."""
    query = query_of(request)
    window = read_window(query)
    page = await admin_services(request).rooms.list(
        page=window.page, limit=window.limit, q=read_search_text(query)
    )
    return as_json(views.page(page, [views.room(room) for room in page.items]))


@router.get(
    "/rooms/{room_id}/messages", **described(answer=PageOf(views.MessageView), parameters=CURSOR)
)
@needs(AdminScope.ROOMS_READ, "rooms.messages", CURSORED)
async def list_messages(request: Request, room_id: RoomName) -> Response:
    """Messages of any room, by page or next to a cursor."""
    window = read_window(query_of(request))
    page = await admin_services(request).rooms.messages(
        room_id, page=window.page, limit=window.limit, before=window.before, after=window.after
    )
    return as_json(views.page(page, [views.message(message) for message in page.items]))


@router.delete("/rooms/{room_id}", **described(status=204))
@needs(AdminScope.ROOMS_WRITE, "rooms.delete")
async def delete_room(request: Request, room_id: RoomName) -> Response:
    """Delete any room."""
    await read_reason(request)
    await admin_services(request).rooms.delete(room_id)
    return nothing()


@router.delete("/rooms/{room_id}/messages/{message_id}", **described(status=204))
@needs(AdminScope.ROOMS_WRITE, "messages.delete")
async def delete_message(request: Request, room_id: RoomName, message_id: MessageId) -> Response:
    """Delete any message; its place in the room stays, empty."""
    context = audit_context(request)
    context.subject = message_id
    context.detail["room_id"] = room_id
    await read_reason(request)
    await admin_services(request).rooms.delete_message(room_id, message_id)
    return nothing()
