"""Reactions to messages, and pinned messages."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from chat_broker.api.dependencies import (
    BodyOf,
    Emoji,
    Me,
    MeReacting,
    MessageId,
    MeWriting,
    NoQuery,
    ReadQuery,
    RoomId,
    TheBroker,
)
from chat_broker.api.openapi import describe, parameter
from chat_broker.api.requests import LARGEST_LIMIT, LONGEST_CURSOR, Nothing
from chat_broker.api.responses import as_json
from chat_broker.api.sync_requests import read_reactions_query
from chat_broker.chat import reaction_views, views
from chat_broker.chat.reactions import ReactionsQuery

router = APIRouter(prefix="/rooms/{room_id}", tags=["messages"])

Empty = Annotated[Nothing, Depends(BodyOf(Nothing, optional=True))]
Wanted = Annotated[ReactionsQuery, Depends(ReadQuery(read_reactions_query))]


@router.get(
    "/messages/{message_id}/reactions",
    **describe(
        answer=reaction_views.ReactorsView,
        parameters=[
            parameter("emoji", {"type": "string"}, "Those with this one alone"),
            parameter(
                "cursor",
                {"type": "string", "maxLength": LONGEST_CURSOR},
                "`next_cursor` of the page before",
            ),
            parameter(
                "limit",
                {"type": "integer", "minimum": 1, "maximum": LARGEST_LIMIT},
                "50 unless told",
            ),
        ],
    ),
)
async def list_reactions(
    me: Me, room_id: RoomId, message_id: MessageId, wanted: Wanted, broker: TheBroker
) -> Response:
    """Who reacted to a message: by first use of the emoji, of each the last one first."""
    page = await broker.reactions.who(me, room_id, message_id, wanted)
    return as_json(reaction_views.reactors(page))


@router.put(
    "/messages/{message_id}/reactions/{emoji}", **describe(answer=reaction_views.ReactionsView)
)
async def react(
    me: MeReacting,
    room_id: RoomId,
    message_id: MessageId,
    emoji: Emoji,
    _: Empty,
    broker: TheBroker,
) -> Response:
    """React to a message; a second time changes nothing."""
    return as_json(
        reaction_views.reactions(await broker.reactions.add(me, room_id, message_id, emoji))
    )


@router.delete(
    "/messages/{message_id}/reactions/{emoji}", **describe(answer=reaction_views.ReactionsView)
)
async def unreact(
    me: MeReacting,
    room_id: RoomId,
    message_id: MessageId,
    emoji: Emoji,
    _: Empty,
    broker: TheBroker,
) -> Response:
    """Take one's own reaction back, if there is one."""
    return as_json(
        reaction_views.reactions(await broker.reactions.remove(me, room_id, message_id, emoji))
    )


@router.put("/messages/{message_id}/pin", **describe(answer=views.MessageView))
async def pin(
    me: MeWriting, room_id: RoomId, message_id: MessageId, _: Empty, broker: TheBroker
) -> Response:
    """Pin a message for everybody in the room; one that is pinned stays as it is."""
    return as_json(views.message(await broker.reactions.pin(me, room_id, message_id)))


@router.delete("/messages/{message_id}/pin", **describe(answer=views.MessageView))
async def unpin(
    me: MeWriting, room_id: RoomId, message_id: MessageId, _: Empty, broker: TheBroker
) -> Response:
    """End the pin of a message, if there is one."""
    return as_json(views.message(await broker.reactions.unpin(me, room_id, message_id)))


@router.get("/pins", **describe(answer=reaction_views.PinsView))
async def list_pins(me: Me, room_id: RoomId, _: NoQuery, broker: TheBroker) -> Response:
    """The pinned messages of a room of the caller's, newest pin first; at most 50."""
    return as_json(reaction_views.pins(await broker.reactions.pins(me, room_id)))
