"""Who may not chat, and since when a token may not be handed out: what cuts somebody off.

Two things decide about a caller. A *ban* says that they may not. A *mark* is a counter that every
revocation and every ban raises before the Chat API is told: a mint that saw one mark before and another
one after was overtaken by a revocation, and its token is not handed out. No clock takes part.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from chat_broker.chat.ports import Ban
from chat_broker.errors import Conflict, user_suspended
from chat_broker_kit.bounded_cache import BoundedCache
from chat_broker_kit.text.timestamps import format_timestamp, parse_timestamp

T = TypeVar("T")

REMEMBERED = 1.0
"""Seconds for which a replica may not have heard of a ban made elsewhere (at once, with Redis)."""
MOST_REMEMBERED = 20_000

Pending = Literal["suspend", "free"]


@dataclass(frozen=True, slots=True)
class BanRecord:
    """One ban, from its beginning to its end. Instants are RFC 3339 text in UTC, *until* None: for good.

    *suspended* says that the broker suspended the chat user for it, and so has to let them go again;
    *pending* is what the Chat API still has to be told.
    """

    id: str
    user_id: str
    external_user_id: str
    reason: str
    by: str
    created_at: str
    until: str | None = None
    lifted_at: str | None = None
    lifted_by: str | None = None
    suspended: bool = False
    pending: Pending | None = None

    def holds(self, now: str) -> bool:
        """Is it in force? It ends at *until* by itself."""
        return self.lifted_at is None and (self.until is None or self.until > now)

    def to_dict(self) -> dict[str, str | bool | None]:
        """As the admin API shows it."""
        return {
            "id": self.id,
            "user_id": self.user_id,
            "external_user_id": self.external_user_id,
            "reason": self.reason,
            "by": self.by,
            "created_at": self.created_at,
            "until": self.until,
            "lifted_at": self.lifted_at,
            "lifted_by": self.lifted_by,
            "active": self.holds(format_timestamp()),
        }


@dataclass(frozen=True, slots=True)
class BanStatus:
    """How a user stands: their *mark*, and the *ban* that may hold."""

    mark: int
    ban: BanRecord | None = None


class BanBook(Protocol):
    """Bans and marks, durable. Every method raises StateUnavailable when the database does not answer."""

    async def ban_status(self, external_id: str) -> BanStatus:
        """The mark (of user and project together) and the latest ban that nobody has lifted."""
        ...

    async def raise_mark(self, external_id: str | None) -> None:
        """Raise the mark of one user, or of everybody; durable on return."""
        ...

    async def ban(self, record: BanRecord) -> None:
        """Put *record* in force, in place of an older one, and raise the mark; durable on return."""
        ...

    async def lift(self, external_id: str, *, by: str, at: str) -> BanRecord | None:
        """End the ban in force and answer it, changed; None if there is none."""
        ...

    async def history(self, external_id: str, *, limit: int = 100) -> list[BanRecord]:
        """Bans of a user, latest first."""
        ...

    async def unsettled(self, now: str, *, limit: int = 100) -> list[BanRecord]:
        """Bans of which the Chat API has still to be told: made, lifted, or ended by *now*."""
        ...

    async def settle(self, record: BanRecord, *, suspended: bool) -> bool:
        """The Chat API has been told; *suspended*: the chat user is suspended for this ban now.

        False, and nothing changed, if the ban is not as in *record* any more.
        """
        ...

    async def count(self, now: str) -> int:
        """How many bans are in force."""
        ...


arrival: ContextVar[int | None] = ContextVar("arrival", default=None)
"""The `BanStatuses.moment` at which the present request came in."""


class BanStatuses:
    """What a replica remembers of users' ban statuses, so that a ban costs a chatting user nothing.

    Never raises anything but StateUnavailable; then nobody is let in. *exact*: this process is the only
    one that writes, so what it remembers is what there is. Otherwise a mint asks the book each time.
    """

    def __init__(
        self,
        book: BanBook,
        *,
        exact: bool = False,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], str] = format_timestamp,
        most: int = MOST_REMEMBERED,
    ) -> None:
        self._book = book
        self._exact = exact
        self._clock = clock
        self._now = now
        self._most = most
        self._known = BoundedCache[str, BanStatus](most, clock=clock)
        self._readings = 0
        self._moment = 0
        self._cut: OrderedDict[str, int] = OrderedDict()
        self._all_cut = 0

    async def active_ban(self, external_id: str) -> Ban | None:
        """The ban that holds now, if any. Microseconds, for a user who was asked about within the last second."""
        status = self._known.get(external_id) or await self.ban_status(external_id)
        return None if status.ban is None else self._ban_in(external_id, status)

    async def ban_status(self, external_id: str, *, fresh: bool = False) -> BanStatus:
        """Mark and ban. *fresh*: not a moment old."""
        known = self._known.get(external_id) if self._exact or not fresh else None
        if known is not None:
            return known
        readings = self._readings
        until = self._clock() + REMEMBERED
        found = await self._book.ban_status(external_id)
        if readings == self._readings:  # or somebody was banned while the book was being read
            self._known.put(external_id, found, until=until)
        return found

    def holds(self, status: BanStatus) -> bool:
        """Is the ban in *status*, if there is one, in force at this moment?"""
        return status.ban is not None and status.ban.holds(self._now())

    def forget(self, external_id: str | None) -> None:
        """What is remembered of one user, or of all, may be wrong."""
        self._readings += 1
        if external_id is None:
            self._known.forget_all()
        else:
            self._known.forget(external_id)

    def cut(self, external_id: str | None) -> None:
        """One user, or everybody, has been cut off: requests under way are too late."""
        self.forget(external_id)
        self._moment += 1
        if external_id is None:
            self._cut.clear()
            self._all_cut = self._moment
            return
        self._cut[external_id] = self._moment
        self._cut.move_to_end(external_id)
        if len(self._cut) > self._most:
            # Of who is dropped here one can only say: not later than this.
            self._all_cut = max(self._all_cut, self._cut.popitem(last=False)[1])

    @property
    def moment(self) -> int:
        """How many cuts this process knows of: orders requests against revocations without a clock."""
        return self._moment

    def note_arrival(self) -> None:
        """A request for a token has come in: what is cut off from now on, it must not outlive."""
        arrival.set(self._moment)

    def cut_since(self, external_id: str, moment: int) -> bool:
        """Has the user been cut off, as far as this process knows, after *moment*?"""
        return max(self._cut.get(external_id, 0), self._all_cut) > moment

    def _ban_in(self, external_id: str, status: BanStatus) -> Ban | None:
        if not self.holds(status) or status.ban is None:
            return None
        until = status.ban.until
        ends = None if until is None else parse_timestamp(until)
        return Ban(external_id, status.ban.reason, ends)


class MintGuard:
    """Lets no token out to somebody who was cut off before or while it was made."""

    def __init__(
        self,
        book: BanBook,
        ban_statuses: BanStatuses,
        *,
        let_go: Callable[[BanRecord], Awaitable[object]],
        tell: Callable[[str | None], Awaitable[None]],
    ) -> None:
        """*let_go* tells the Chat API that a ban has ended; *tell* tells the other replicas."""
        self._book = book
        self._ban_statuses = ban_statuses
        self._let_go = let_go
        self._tell = tell

    async def mint(self, external_id: str, mint: Callable[[], Awaitable[T]]) -> T:
        """What *mint* makes for the user, if it may be handed out.

        Raises Refused `user_suspended` for a banned user, Conflict `token_revoked` when a revocation
        came in between, StateUnavailable when nobody can say.
        """
        moment = arrival.get()
        if moment is None:
            moment = self._ban_statuses.moment
        before = await self._ban_statuses.ban_status(external_id, fresh=True)
        if self._ban_statuses.holds(before):
            raise user_suspended()
        if before.ban is not None and before.ban.suspended:
            await self._let_go(before.ban)
        made = await mint()
        after = await self._ban_statuses.ban_status(external_id, fresh=True)
        if self._ban_statuses.holds(after):
            raise user_suspended()
        if after.mark != before.mark or self._ban_statuses.cut_since(external_id, moment):
            raise Conflict(
                "token_revoked",
                "The user's tokens were revoked while this one was made. Ask again.",
            )
        return made

    async def cut(self, external_id: str | None) -> None:
        """From here on no mint of the user (None: of anybody) that has begun hands out its token.

        Durable, and known to this process, on return. Comes before the Chat API is told.
        """
        await self._book.raise_mark(external_id)
        await self.was_cut(external_id)

    async def was_cut(self, external_id: str | None) -> None:
        """The book says so already: tell this process, and the others."""
        self._ban_statuses.cut(external_id)
        await self._tell(external_id)
