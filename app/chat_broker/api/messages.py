"""What is said in rooms."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from chat_broker.api.dependencies import (
    BodyOf,
    IdempotencyKey,
    Me,
    MessageId,
    MeWriting,
    NoQuery,
    RoomId,
    TheBroker,
    WindowWanted,
)
from chat_broker.api.openapi import CURSOR, KEY, PageOf, describe
from chat_broker.api.requests import MessageDraft, MessageEdit, Nothing, ReadUpTo
from chat_broker.api.responses import Json, as_json, nothing
from chat_broker.chat import reaction_views, views

router = APIRouter(prefix="/rooms/{room_id}", tags=["messages"])

Draft = Annotated[MessageDraft, Depends(BodyOf(MessageDraft))]
Edit = Annotated[MessageEdit, Depends(BodyOf(MessageEdit))]
UpTo = Annotated[ReadUpTo, Depends(BodyOf(ReadUpTo))]
Empty = Annotated[Nothing, Depends(BodyOf(Nothing, optional=True))]


@router.get("/messages", **describe(answer=PageOf(views.MessageView), parameters=CURSOR))
async def list_messages(
    me: Me, room_id: RoomId, window: WindowWanted, broker: TheBroker
) -> Response:
    """What was said in a room of the caller's: by page, or next to a cursor."""
    return Json((await broker.messages(me, room_id, window)).view, 200)


@router.post(
    "/messages",
    **describe(body=MessageDraft, answer=views.MessageView, status=201, parameters=[KEY]),
)
async def post_message(
    me: MeWriting, room_id: RoomId, draft: Draft, key: IdempotencyKey, broker: TheBroker
) -> Response:
    """Say something, as the caller."""
    message = await broker.post_message(me, room_id, draft, idempotency_key=key)
    return as_json(views.message(message), 201)


@router.get("/messages/{message_id}", **describe(answer=reaction_views.ReadMessageView))
async def get_message(
    me: Me, room_id: RoomId, message_id: MessageId, _: NoQuery, broker: TheBroker
) -> Response:
    """One message in a room of the caller's; a deleted one without its content."""
    message = await broker.message(me, room_id, message_id)
    own = await broker.reactions.own_to(me, room_id, message)
    return as_json(reaction_views.read_message(message, own))


@router.patch("/messages/{message_id}", **describe(body=MessageEdit, answer=views.MessageView))
async def edit_message(
    me: MeWriting, room_id: RoomId, message_id: MessageId, edit: Edit, broker: TheBroker
) -> Response:
    """Change a message of the caller's; with `if_rev`, only if that is still its rev."""
    message = await broker.edit_message(me, room_id, message_id, edit.changes())
    return as_json(views.message(message))


@router.delete("/messages/{message_id}", **describe(status=204))
async def delete_message(
    me: MeWriting, room_id: RoomId, message_id: MessageId, _: Empty, broker: TheBroker
) -> Response:
    """Empty a message of the caller's, or any in a room they own."""
    await broker.delete_message(me, room_id, message_id)
    return nothing()


@router.put("/read", **describe(body=ReadUpTo, answer=views.ReadMarkView))
async def mark_read(me: MeWriting, room_id: RoomId, mark: UpTo, broker: TheBroker) -> Response:
    """Move the caller's read mark; it never moves back."""
    return as_json(views.read_mark(await broker.mark_read(me, room_id, mark.seq)))
