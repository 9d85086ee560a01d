"""Operators and rooms: see any, take away any, and what was said there."""

from fastapi import Request, Response

from chat_broker.admin.keys import Scope
from chat_broker.admin.requests import ROOMS_QUERY, WhyMaybe, read_search_text
from chat_broker.admin.routes.router import (
    admin_router,
    described,
    needs,
    operators,
    read,
    this_call,
)
from chat_broker.api.openapi import CURSOR, PAGE, page_of
from chat_broker.api.requests import CURSORED, read_query, read_window
from chat_broker.api.responses import as_json, nothing
from chat_broker.chat import views

router = admin_router("admin: rooms")


@router.get("/rooms", **described(answer=page_of(views.RoomView), parameters=PAGE))
@needs(Scope.ROOMS_READ, "rooms.list")
async def list_rooms(request: Request) -> Response:
    """One page of all rooms, private ones too."""
    query = read_query(request.scope["query_string"], ROOMS_QUERY)
    window = read_window(query)
    page = await operators(request).operations.rooms(
        page=window.page, limit=window.limit, q=read_search_text(query)
    )
    return as_json(views.page(page, [views.room(room) for room in page.items]))


@router.get(
    "/rooms/{room_id}/messages", **described(answer=page_of(views.MessageView), parameters=CURSOR)
)
@needs(Scope.ROOMS_READ, "rooms.messages")
async def list_messages(request: Request, room_id: str) -> Response:
    """What was said in any room: by page, or next to a cursor."""
    window = read_window(read_query(request.scope["query_string"], CURSORED))
    page = await operators(request).operations.messages(
        room_id, page=window.page, limit=window.limit, before=window.before, after=window.after
    )
    return as_json(views.page(page, [views.message(one) for one in page.items]))


@router.delete("/rooms/{room_id}", **described(status=204))
@needs(Scope.ROOMS_WRITE, "rooms.delete")
async def delete_room(request: Request, room_id: str) -> Response:
    """Delete any room."""
    read_query(request.scope["query_string"])
    this_call(request).reason = (await read(request, WhyMaybe, optional=True)).reason
    await operators(request).operations.delete_room(room_id)
    return nothing()


@router.delete("/rooms/{room_id}/messages/{message_id}", **described(status=204))
@needs(Scope.ROOMS_WRITE, "messages.delete")
async def delete_message(request: Request, room_id: str, message_id: str) -> Response:
    """Empty any message; it keeps its place."""
    read_query(request.scope["query_string"])
    call = this_call(request)
    call.subject = message_id
    call.detail["room_id"] = room_id
    call.reason = (await read(request, WhyMaybe, optional=True)).reason
    await operators(request).operations.delete_message(room_id, message_id)
    return nothing()
