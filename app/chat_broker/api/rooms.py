"""Rooms, and who is in them."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from chat_broker.api.dependencies import (
    BodyOf,
    IdempotencyKey,
    Me,
    MeWriting,
    NamedRole,
    NoQuery,
    ReadQuery,
    RoomId,
    TheBroker,
    UserReference,
    the_gate,
)
from chat_broker.api.openapi import KEY, MEMBERS, ROOMS, PageOf, describe
from chat_broker.api.requests import (
    DirectWish,
    NewMembers,
    Nothing,
    RoomDraft,
    RoomEdit,
    read_members_query,
)
from chat_broker.api.responses import as_json, nothing
from chat_broker.api.sync_requests import read_room_query
from chat_broker.chat import sync_views, views
from chat_broker.chat.broker import Broker, SomeMembers, Window
from chat_broker.chat.identities import EXTERNAL
from chat_broker.chat.own_rooms import RoomQuery
from chat_broker_sdk import CursorPage, Member

NAMES_OF_ONE_READ = 20
"""External ids of users, each of which is looked up."""

router = APIRouter(prefix="/rooms", tags=["rooms"])
direct_router = APIRouter(tags=["rooms"])

Draft = Annotated[RoomDraft, Depends(BodyOf(RoomDraft))]
Edit = Annotated[RoomEdit, Depends(BodyOf(RoomEdit))]
Added = Annotated[NewMembers, Depends(BodyOf(NewMembers))]
MembersWanted = Annotated[SomeMembers | Window, Depends(ReadQuery(read_members_query))]
Direct = Annotated[DirectWish, Depends(BodyOf(DirectWish))]
Empty = Annotated[Nothing, Depends(BodyOf(Nothing, optional=True))]


@router.get("", **describe(answer=PageOf(views.RoomView), parameters=ROOMS))
async def list_rooms(
    me: Me, query: Annotated[RoomQuery, Depends(ReadQuery(read_room_query))], broker: TheBroker
) -> Response:
    """The caller's rooms, with `unread`, or the open rooms."""
    page = await broker.own.rooms(me, query)
    joined = query.scope == "joined"
    if isinstance(page, CursorPage):
        return as_json(sync_views.rooms(page, for_member=joined))
    return as_json(views.page(page, [views.room(one, for_member=joined) for one in page.items]))


@router.post(
    "",
    **describe(body=RoomDraft, answer=views.RoomView, status=201, parameters=[KEY]),
)
async def create_room(
    me: MeWriting, draft: Draft, key: IdempotencyKey, broker: TheBroker
) -> Response:
    """A new room that the caller owns."""
    fields = draft.changes()
    member_ids = fields.pop("member_ids", None) or ()
    room = await broker.create_room(me, fields, member_ids=member_ids, idempotency_key=key)
    return as_json(views.room(room), 201)


@direct_router.put("/direct", **describe(body=DirectWish, answer=views.RoomView))
async def ensure_direct_room(me: MeWriting, wish: Direct, broker: TheBroker) -> Response:
    """The one direct room of the caller and others; 201 if it is new."""
    room, is_new = await broker.direct.ensure(me, wish.with_)
    return as_json(views.room(room), 201 if is_new else 200)


@router.get("/{room_id}", **describe(answer=views.RoomView))
async def get_room(me: Me, room_id: RoomId, _: NoQuery, broker: TheBroker) -> Response:
    """One room of the caller's."""
    return as_json(views.room(await broker.room(me, room_id)))


@router.patch("/{room_id}", **describe(body=RoomEdit, answer=views.RoomView))
async def update_room(me: MeWriting, room_id: RoomId, edit: Edit, broker: TheBroker) -> Response:
    """Change a room the caller owns."""
    return as_json(views.room(await broker.update_room(me, room_id, edit.changes())))


@router.delete("/{room_id}", **describe(status=204))
async def delete_room(me: MeWriting, room_id: RoomId, _: Empty, broker: TheBroker) -> Response:
    """Delete a room the caller owns."""
    await broker.delete_room(me, room_id)
    return nothing()


@router.post("/{room_id}/join", **describe(answer=views.MemberView))
async def join_room(me: MeWriting, room_id: RoomId, _: Empty, broker: TheBroker) -> Response:
    """Make the caller a member of an open room."""
    return as_json(views.member(await broker.join(me, room_id)))


@router.post("/{room_id}/leave", **describe(status=204))
async def leave_room(me: MeWriting, room_id: RoomId, _: Empty, broker: TheBroker) -> Response:
    """End the caller's membership."""
    await broker.leave(me, room_id)
    return nothing()


@router.get("/{room_id}/members", **describe(answer=PageOf(views.MemberView), parameters=MEMBERS))
async def list_members(
    request: Request, me: Me, room_id: RoomId, wanted: MembersWanted, broker: TheBroker
) -> Response:
    """Who is in a room of the caller's: a page of all members, or some of them. 20 external ids count as one read."""
    if isinstance(wanted, SomeMembers):
        looked_up = sum(name.startswith(EXTERNAL) for name in wanted.ids or ())
        await the_gate(request.scope).count_more("read", me, looked_up // NAMES_OF_ONE_READ)
        some = await broker.some_members(me, room_id, wanted)
        return as_json(views.some_members(some, await _shown(broker, some.items)))
    page = await broker.members(me, room_id, wanted)
    return as_json(views.page(page, await _shown(broker, page.items)))


async def _shown(broker: Broker, members: Sequence[Member]) -> list[views.MemberView]:
    exposed = await broker.exposed(members)
    return [views.member(one, exposed.get(one.user_id)) for one in members]


@router.post(
    "/{room_id}/members",
    **describe(body=NewMembers, answer=views.AddedView, parameters=[KEY]),
)
async def add_members(
    me: MeWriting, room_id: RoomId, new: Added, key: IdempotencyKey, broker: TheBroker
) -> Response:
    """Add users to a room that the caller owns or moderates: all of them, or none."""
    result = await broker.add_members(me, room_id, new.users, idempotency_key=key)
    added = await _shown(broker, result.added)
    return as_json(views.AddedView(added, list(result.there)))


# `:path`, because an external id may hold a slash.
@router.put("/{room_id}/members/{user:path}", **describe(answer=views.MemberView))
async def add_member(
    me: MeWriting, room_id: RoomId, user: UserReference, _: Empty, broker: TheBroker
) -> Response:
    """Add a user to a room that the caller owns or moderates."""
    return as_json(views.member(await broker.add_member(me, room_id, user)))


# The user stands last, since an external id may hold `/role/owner`.
@router.put("/{room_id}/roles/{role}/{user:path}", **describe(answer=views.MemberView))
async def set_role(
    me: MeWriting,
    room_id: RoomId,
    role: NamedRole,
    user: UserReference,
    _: Empty,
    broker: TheBroker,
) -> Response:
    """Give a user a role in a room that the caller owns."""
    return as_json(views.member(await broker.set_role(me, room_id, user, role)))


@router.delete("/{room_id}/roles/{role}/{user:path}", **describe(answer=views.MemberView))
async def end_role(
    me: MeWriting,
    room_id: RoomId,
    role: NamedRole,
    user: UserReference,
    _: Empty,
    broker: TheBroker,
) -> Response:
    """Take a role from a user, who stays as an ordinary member."""
    return as_json(views.member(await broker.end_role(me, room_id, user, role)))


@router.delete("/{room_id}/members/{user:path}", **describe(status=204))
async def remove_member(
    me: MeWriting, room_id: RoomId, user: UserReference, _: Empty, broker: TheBroker
) -> Response:
    """Remove a member of a lower rank from a room that the caller owns or moderates, or the caller from any."""
    await broker.remove_member(me, room_id, user)
    return nothing()
