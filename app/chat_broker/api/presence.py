"""Who has read a message, and who is online."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from chat_broker.api.dependencies import Me, MessageId, NoQuery, ReadQuery, RoomId, TheBroker
from chat_broker.api.openapi import describe, parameter
from chat_broker.api.people_requests import MOST_ASKED, read_ids_query
from chat_broker.api.responses import as_json
from chat_broker.chat import presence_views

router = APIRouter(tags=["presence"])

Names = Annotated[tuple[str, ...], Depends(ReadQuery(read_ids_query))]


@router.get(
    "/presence",
    **describe(
        answer=presence_views.PresencesView,
        parameters=[
            parameter(
                "ids",
                {"type": "string"},
                f"At most {MOST_ASKED} users, with commas between them: chat user ids, or external:…",
            )
        ],
    ),
)
async def get_presence(me: Me, names: Names, broker: TheBroker) -> Response:
    """Whether users of a common room are online; others are left out."""
    return as_json(presence_views.presences(await broker.there.presence(me, names)))


@router.get(
    "/rooms/{room_id}/messages/{message_id}/receipts",
    **describe(answer=presence_views.ReceiptsView),
)
async def get_receipts(
    me: Me, room_id: RoomId, message_id: MessageId, _: NoQuery, broker: TheBroker
) -> Response:
    """Who has read a message in a small room of the caller's, and whom it has reached, without its author."""
    return as_json(presence_views.receipts(await broker.there.receipts(me, room_id, message_id)))
