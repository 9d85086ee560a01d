"""Routes that keep a client's copy right: features, changes, one's own side of a room, unread, sync."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from chat_broker.api.dependencies import (
    BodyOf,
    Me,
    MeWriting,
    NoQuery,
    ReadQuery,
    RoomId,
    TheBroker,
    the_gate,
)
from chat_broker.api.openapi import describe, parameter
from chat_broker.api.responses import as_json
from chat_broker.api.sync_requests import (
    MineEdit,
    RoomsRead,
    SeqMark,
    SyncRequest,
    read_changes_query,
    read_cursor_query,
)
from chat_broker.chat import sync_views, views

ROOMS_OF_ONE_READ = 20
"""A sync that answers more rooms counts as more than one read."""

router = APIRouter(tags=["sync"])
room_router = APIRouter(prefix="/rooms/{room_id}", tags=["sync"])

Changed = Annotated[dict[str, Any], Depends(ReadQuery(read_changes_query))]
Mentioned = Annotated[dict[str, Any], Depends(ReadQuery(read_cursor_query))]
Delivered = Annotated[SeqMark, Depends(BodyOf(SeqMark))]
Edit = Annotated[MineEdit, Depends(BodyOf(MineEdit))]
Marks = Annotated[RoomsRead, Depends(BodyOf(RoomsRead))]
Known = Annotated[SyncRequest, Depends(BodyOf(SyncRequest))]


@router.get("/features", **describe(answer=sync_views.FeaturesView))
async def get_features(_me: Me, _: NoQuery, broker: TheBroker) -> Response:
    """What this service offers beyond rooms and messages."""
    return as_json(sync_views.features(await broker.features.offer()))


@router.get("/unread", **describe(answer=sync_views.TotalsView))
async def get_unread(me: Me, _: NoQuery, broker: TheBroker) -> Response:
    """What is unread in the caller's rooms that are neither silenced nor archived."""
    return as_json(sync_views.totals(await broker.own.unread(me)))


@router.get(
    "/mentions",
    **describe(
        answer=sync_views.MentionsView,
        parameters=[
            parameter(
                "cursor", {"type": "string", "maxLength": 512}, "`next_cursor` of the page before"
            ),
            parameter("limit", {"type": "integer", "minimum": 1, "maximum": 200}, "50 unless told"),
        ],
    ),
)
async def list_mentions(me: Me, wanted: Mentioned, broker: TheBroker) -> Response:
    """Messages of others that name the caller, or everybody with them, newest first."""
    return as_json(sync_views.mentions(await broker.own.mentions(me, **wanted)))


@router.post("/read", **describe(body=RoomsRead, answer=sync_views.AllReadView))
async def mark_all_read(me: MeWriting, wanted: Marks, broker: TheBroker) -> Response:
    """Mark many rooms of the caller as read, or all."""
    totals = await broker.own.mark_all_read(me, wanted.marks())
    return as_json(sync_views.AllReadView(sync_views.totals(totals)))


@router.post("/sync", **describe(body=SyncRequest, answer=sync_views.SyncView))
async def sync_rooms(request: Request, me: Me, known: Known, broker: TheBroker) -> Response:
    """What the caller lacks of all their rooms. Writes nothing; 20 rooms count as one read."""
    result = await broker.own.sync(me, known.model_dump(exclude_none=True))
    more_reads = max(len(result.deltas) - 1, 0) // ROOMS_OF_ONE_READ
    await the_gate(request.scope).count_more("read", me, more_reads)
    members = [
        change.member for delta in result.deltas for change in delta.changed if change.member
    ]
    return as_json(sync_views.sync(result, await broker.exposed(members)))


@room_router.get(
    "/changes",
    **describe(
        answer=sync_views.ChangesView,
        parameters=[
            parameter("since_rev", {"type": "integer", "minimum": 0}, "Changes after this rev"),
            parameter("from_seq", {"type": "integer", "minimum": 0}, "Without messages below it"),
            parameter("limit", {"type": "integer", "minimum": 1, "maximum": 200}, "50 unless told"),
        ],
    ),
)
async def list_changes(me: Me, room_id: RoomId, wanted: Changed, broker: TheBroker) -> Response:
    """What changed in a room of the caller's, new messages apart: each object once, as it is now."""
    page = await broker.own.changes(me, room_id, **wanted)
    members = [change.member for change in page.items if change.member]
    return as_json(sync_views.changes(page, await broker.exposed(members)))


@room_router.get("/mine", **describe(answer=views.MineView))
async def get_mine(me: Me, room_id: RoomId, _: NoQuery, broker: TheBroker) -> Response:
    """The caller's own side of a room, which only the caller sees."""
    return as_json(views.mine(await broker.own.mine(me, room_id)))


@room_router.patch("/mine", **describe(body=MineEdit, answer=views.MineView))
async def update_mine(me: MeWriting, room_id: RoomId, edit: Edit, broker: TheBroker) -> Response:
    """Mute, archive, pin a room for the caller alone."""
    return as_json(views.mine(await broker.own.update_mine(me, room_id, edit.changes())))


@room_router.put("/delivered", **describe(body=SeqMark, answer=sync_views.DeliveredView))
async def mark_delivered(
    me: MeWriting, room_id: RoomId, mark: Delivered, broker: TheBroker
) -> Response:
    """Say that messages have reached a device of the caller's; the mark never moves back."""
    return as_json(sync_views.delivered(await broker.own.mark_delivered(me, room_id, mark.seq)))
