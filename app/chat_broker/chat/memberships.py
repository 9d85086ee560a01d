"""Who is in which room, cached for a moment."""

import time
from collections.abc import Callable
from typing import NamedTuple

import chat_broker_sdk
from chat_broker.chat.ids import is_id
from chat_broker.chat.policy import ROLES, Role
from chat_broker.chat.ports import RoomChanges
from chat_broker_kit.bounded_cache import ExpiringCache
from chat_broker_sdk import AsyncChatClient, Member

CACHED_FOR = 5.0
"""Seconds for which a membership is remembered, unless a broker changes it (broker.md)."""
MOST = 50_000


class Membership(NamedTuple):
    """What the broker remembers of a member. Messages below *from_seq* are hidden from them; None: none is."""

    role: Role
    from_seq: int | None = None


class Memberships:
    """Asks the Chat API who is in a room, and caches the answer for 5 s at most.

    Only memberships are cached, never that there is none: a user who joins is in at once. A change made
    through any broker counts at once, because an entry is good only under the room's present mark.
    """

    def __init__(
        self,
        chat: AsyncChatClient,
        changes: RoomChanges,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._chat = chat
        self._changes = changes
        self._clock = clock
        self._known = ExpiringCache[tuple[str, str], tuple[str, Membership]](MOST, clock=clock)

    async def of(self, room_id: str, user_id: str) -> Membership | None:
        """The user's membership in the room; None if they are not in it, or there is no such room."""
        mark = await self._changes.mark(room_id)
        key = (room_id, user_id)
        known = self._known.get(key)
        if known is not None and known[0] == mark:
            return known[1]
        # The time counts from before the question, so that a slow answer is not believed for longer.
        until = self._clock() + CACHED_FOR
        member = await self.look(room_id, user_id)
        if member is None:
            self._known.forget(key)
            return None
        membership = Membership(role_of(member), member.from_seq)
        if mark is not None:
            self._known.put(key, (mark, membership), until=until)
        return membership

    async def look(self, room_id: str, user_id: str) -> Member | None:
        """The membership as it is now, always asked for; None as for `of`."""
        if not is_id(room_id):
            return None
        try:
            return await self._chat.rooms.member(room_id, user_id)
        except chat_broker_sdk.NotFoundError as error:
            if error.code == "project_not_found":
                raise
            return None

    async def changed(self, room_id: str) -> None:
        """A member came or left, or has another role or history: every replica asks again."""
        await self._changes.changed(room_id)


def role_of(member: Member) -> Role:
    """The member's role; `member` for one that the broker does not know."""
    return next((role for role in ROLES if role == member.role), "member")
