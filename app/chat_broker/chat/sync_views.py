"""What frontends see of changes, of their own side of a room, and of all rooms at once."""

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from chat_broker.chat import presence_views, views
from chat_broker.chat.features import Offer
from chat_broker_sdk import (
    Change,
    Changes,
    CursorPage,
    DeliveredMark,
    Delta,
    Message,
    Room,
    SyncResult,
    Totals,
)

Exposed = Mapping[str, dict[str, Any]]
"""What the operator lets members see of each other, by chat user id."""


class FeaturesView(Struct):
    """The optional features that callers may use, sizes by name, and the epoch of the Chat API's database."""

    features: tuple[str, ...]
    limits: dict[str, Any]
    epoch: str | None


class DeliveredView(Struct):
    """The seq up to which messages have reached a device of the caller's."""

    delivered_seq: int


class TotalsView(Struct):
    """What is unread in the caller's rooms that are neither silenced nor archived."""

    rooms: int
    messages: int
    mentions: int
    direct: int


class AllReadView(Struct):
    """What is left unread."""

    totals: TotalsView


class ChangeView(Struct):
    """One object of a room as it is now. *member* is null for a user who is gone."""

    rev: int
    kind: str
    message: views.MessageView | UnsetType = UNSET
    room: views.RoomView | UnsetType = UNSET
    member: views.MemberView | UnsetType | None = UNSET
    user_id: str | UnsetType = UNSET


class ChangesView(Struct):
    """Changes in order of rev. *reset*: they are not kept, and the room is to be read anew."""

    items: list[ChangeView]
    rev: int
    has_more: bool
    reset: bool
    mine: Mapping[str, tuple[str, ...]] | UnsetType = UNSET


class DeltaView(Struct):
    """What the caller lacks of one room. *partial*: edits and deletions are not known."""

    room: views.RoomView
    mine: views.MineView | None
    last_seq: int
    rev: int
    epoch: str | None
    reset: bool
    missed: list[views.MessageView]
    changed: list[ChangeView]
    has_more: bool
    receipts: list[presence_views.ReceiptView] | UnsetType = UNSET
    partial: bool | UnsetType = UNSET
    own_reactions: Mapping[str, tuple[str, ...]] | UnsetType = UNSET


class SyncView(Struct):
    """What the caller lacks of all their rooms, newest activity first."""

    deltas: list[DeltaView]
    removed: tuple[str, ...]
    unread: TotalsView
    epoch: str | None
    has_more: bool
    cursor: str | None
    token: str | UnsetType = UNSET
    version: int | UnsetType = UNSET
    reload: bool | UnsetType = UNSET


class RoomsView(Struct):
    """Rooms by activity. The next ones are had with *next_cursor*."""

    items: list[views.RoomView]
    limit: int | None
    next_cursor: str | None
    has_more: bool
    mine: Mapping[str, tuple[str, ...]] | UnsetType = UNSET


class MentionsView(Struct):
    """Messages that name the caller, newest first. The next ones are had with *next_cursor*."""

    items: list[views.MessageView]
    limit: int | None
    next_cursor: str | None
    has_more: bool


def mentions(page: CursorPage[Message]) -> MentionsView:
    """A page of messages that name the caller."""
    items = [views.message(each) for each in page.items]
    return MentionsView(items, page.limit, page.next_cursor, page.has_more)


def features(offer: Offer) -> FeaturesView:
    return FeaturesView(offer.features, offer.limits, offer.epoch)


def delivered(mark: DeliveredMark) -> DeliveredView:
    return DeliveredView(mark.delivered_seq)


def totals(all_rooms: Totals) -> TotalsView:
    return TotalsView(all_rooms.rooms, all_rooms.messages, all_rooms.mentions, all_rooms.direct)


def rooms(page: CursorPage[Room], *, for_member: bool) -> RoomsView:
    """A page of rooms by activity; *for_member*: with the caller's own side of each."""
    items = [views.room(each, for_member=for_member) for each in page.items]
    return RoomsView(items, page.limit, page.next_cursor, page.has_more, page.mine or UNSET)


def changes(page: Changes, exposed: Exposed) -> ChangesView:
    """What changed in a room."""
    items = [_change(each, exposed) for each in page.items]
    return ChangesView(items, page.rev, page.has_more, page.reset, page.mine or UNSET)


def _change(change: Change, exposed: Exposed) -> ChangeView:
    view = ChangeView(change.rev, change.kind)
    if change.message is not None:
        view.message = views.message(change.message)
    if change.room is not None:
        view.room = views.room(change.room)
    if change.kind == "member" and change.user_id is not None:
        view.user_id = change.user_id
        view.member = None
        if change.member is not None:
            view.member = views.member(change.member, exposed.get(change.user_id))
    return view


def sync(result: SyncResult, exposed: Exposed) -> SyncView:
    """What the caller lacks of all their rooms."""
    return SyncView(
        deltas=[_delta(each, exposed) for each in result.deltas],
        removed=result.removed,
        unread=totals(result.unread),
        epoch=result.epoch,
        has_more=result.has_more,
        cursor=result.cursor,
        token=UNSET if result.token is None else result.token,
        version=UNSET if result.version is None else result.version,
        reload=result.reload or UNSET,
    )


def _delta(delta: Delta, exposed: Exposed) -> DeltaView:
    return DeltaView(
        room=views.room(delta.room),
        mine=None if delta.mine is None else views.mine(delta.mine),
        last_seq=delta.last_seq,
        rev=delta.rev,
        epoch=delta.epoch,
        reset=delta.reset,
        missed=[views.message(each) for each in delta.missed],
        changed=[_change(each, exposed) for each in delta.changed],
        has_more=delta.has_more,
        receipts=[presence_views.receipt(each) for each in delta.receipts] or UNSET,
        partial=delta.partial or UNSET,
        own_reactions=delta.own_reactions or UNSET,
    )
