"""The rules for the caller's copy of their rooms: what changed, their own side of each room, all rooms at once."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from chat_broker.chat.features import Features
from chat_broker.chat.identities import Identities
from chat_broker.chat.policy import Action
from chat_broker.chat.principal import Principal
from chat_broker_sdk import (
    AsyncChatClient,
    Changes,
    CursorPage,
    DeliveredMark,
    Message,
    Mine,
    Page,
    Room,
    SyncResult,
    Totals,
)

May = Callable[[Principal, Action, str], Awaitable[str]]
"""The caller's chat user id, if they may do the action in the room; raises what the refusal answers."""


@dataclass(frozen=True, slots=True)
class RoomQuery:
    """Which rooms: the caller's own or open ones, by page, or by activity next to a cursor."""

    scope: Literal["joined", "open"] = "joined"
    page: int | None = None
    limit: int | None = None
    q: str | None = None
    by_activity: bool = False
    kind: str | None = None
    archived: bool | None = None
    cursor: str | None = None

    @property
    def needs_feature(self) -> bool:
        """Whether it asks for what only a Chat API with the feature `mine` can answer."""
        return self.by_activity or self.kind is not None or self.archived is not None


class OwnRooms:
    """What keeps a caller's copy of their rooms right. Acts as the caller and no other user; membership comes first."""

    def __init__(
        self,
        chat: AsyncChatClient,
        identities: Identities,
        features: Features,
        may: May,
        changed: Callable[[str], Awaitable[None]],
    ) -> None:
        """*changed*: called with a room of which a membership is to be read anew."""
        self._chat = chat
        self._identities = identities
        self._features = features
        self._may = may
        self._changed = changed

    async def rooms(self, me: Principal, query: RoomQuery) -> Page[Room] | CursorPage[Room]:
        """The caller's rooms with `unread`, or the open ones."""
        user_id = await self._identities.active_id(me)
        if query.needs_feature:
            await self._features.require("mine")
        joined = query.scope == "joined"
        which: dict[str, Any] = {
            "member_id": user_id if joined else None,
            "private": None if joined else False,
            "limit": query.limit,
            "q": query.q,
            "kind": query.kind,
            "archived": query.archived,
        }
        rooms = self._chat.rooms
        if query.by_activity:
            return await rooms.list(sort="activity", cursor=query.cursor, **which)
        return await rooms.list(page=query.page, **which)

    async def changes(
        self,
        me: Principal,
        room_id: str,
        *,
        since_rev: int,
        from_seq: int | None,
        limit: int | None,
    ) -> Changes:
        """What changed in a room of the caller's, as far as they may see it."""
        user_id = await self._may(me, Action.READ, room_id)
        await self._features.require("changes")
        return await self._chat.rooms.changes(
            room_id, since_rev=since_rev, from_seq=from_seq, limit=limit, member_id=user_id
        )

    async def mine(self, me: Principal, room_id: str) -> Mine:
        """The caller's own side of a room."""
        user_id = await self._may(me, Action.READ, room_id)
        await self._features.require("mine")
        return await self._chat.rooms.mine(room_id, user_id=user_id)

    async def update_mine(self, me: Principal, room_id: str, changes: Mapping[str, Any]) -> Mine:
        """Change the caller's own side of a room."""
        user_id = await self._may(me, Action.READ, room_id)
        await self._features.require("mine")
        try:
            return await self._chat.rooms.update_mine(room_id, user_id=user_id, **changes)
        finally:
            if "clear_history" in changes:
                await self._changed(room_id)

    async def mark_delivered(self, me: Principal, room_id: str, seq: int) -> DeliveredMark:
        """Say that messages up to *seq* have reached a device of the caller's."""
        user_id = await self._may(me, Action.READ, room_id)
        await self._features.require("mine")
        return await self._chat.rooms.mark_delivered(room_id, seq=seq, user_id=user_id)

    async def mark_all_read(self, me: Principal, rooms: Mapping[str, int] | None) -> Totals:
        """Mark *rooms* of the caller as read up to these `seq`, or all. One that is not the caller's: nothing is marked."""
        user_id = await self._identities.active_id(me)
        await self._features.require("mine")
        if rooms is not None and any(":" in name for name in rooms):
            await self._features.require("external_rooms")
        return await self._chat.rooms.mark_all_read(user_id, rooms=rooms)

    async def unread(self, me: Principal) -> Totals:
        """What is unread in all rooms of the caller that are neither silenced nor archived."""
        user_id = await self._identities.active_id(me)
        self._features.refuse_switched_off("mine")
        return await self._chat.users.unread(user_id)

    async def mentions(
        self, me: Principal, *, cursor: str | None, limit: int | None
    ) -> CursorPage[Message]:
        """Messages of others that name the caller, newest first."""
        user_id = await self._identities.active_id(me)
        await self._features.require("mentions")
        return await self._chat.users.mentions(user_id, cursor=cursor, limit=limit)

    async def sync(self, me: Principal, query: Mapping[str, Any]) -> SyncResult:
        """What the caller lacks of all their rooms. *query*: arguments of the SDK's `sync`."""
        user_id = await self._identities.active_id(me)
        self._features.refuse_switched_off("sync")
        return await self._chat.sync(user_id=user_id, **query)
