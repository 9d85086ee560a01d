"""Who may not chat, and since when a token may not be handed out: what cuts somebody off.

Two things decide about a caller. A *ban* says that they may not. A *mark* is a counter that every
revocation and every ban raises before the Chat API is told: a mint that saw one mark before and another
one after was overtaken by a revocation, and its token is not handed out. No clock takes part.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol

from app.audit import instant
from app.state.contract import Ban

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
            "active": self.holds(instant()),
        }


@dataclass(frozen=True, slots=True)
class Standing:
    """How a user stands: their *mark*, and the *ban* that may hold."""

    mark: int
    ban: BanRecord | None = None


class BanBook(Protocol):
    """Bans and marks, durable. Every method raises StateUnavailable when the database does not answer."""

    async def standing(self, external_id: str) -> Standing:
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


class Standings:
    """What a replica remembers of users' standings, so that a ban costs a chatting user nothing.

    Never raises anything but StateUnavailable; then nobody is let in. *exact*: this process is the only
    one that writes, so what it remembers is what there is. Otherwise a mint asks the book each time.
    """

    def __init__(
        self,
        book: BanBook,
        *,
        exact: bool = False,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], str] = instant,
        most: int = MOST_REMEMBERED,
    ) -> None:
        self._book = book
        self._exact = exact
        self._clock = clock
        self._now = now
        self._most = most
        self._known: OrderedDict[str, tuple[float, Standing]] = OrderedDict()
        self._changes = 0

    async def active(self, external_id: str) -> Ban | None:
        """The ban that holds now, if any. Microseconds, for somebody asked about within the last second."""
        return self._ban_in(external_id, await self.standing(external_id))

    async def standing(self, external_id: str, *, fresh: bool = False) -> Standing:
        """Mark and ban. *fresh*: not a moment old."""
        known = self._known.get(external_id)
        if known is not None and known[0] > self._clock() and (self._exact or not fresh):
            return known[1]
        changes = self._changes
        until = self._clock() + REMEMBERED
        found = await self._book.standing(external_id)
        if changes == self._changes:  # or somebody was banned while the book was being read
            self._known[external_id] = (until, found)
            self._known.move_to_end(external_id)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        return found

    def holds(self, standing: Standing) -> bool:
        """Is the ban in *standing*, if there is one, in force at this moment?"""
        return standing.ban is not None and standing.ban.holds(self._now())

    def forget(self, external_id: str | None) -> None:
        """The standing of one user, or of all, has changed."""
        self._changes += 1
        if external_id is None:
            self._known.clear()
        else:
            self._known.pop(external_id, None)

    def _ban_in(self, external_id: str, standing: Standing) -> Ban | None:
        if not self.holds(standing) or standing.ban is None:
            return None
        until = standing.ban.until
        ends = None if until is None else datetime.fromisoformat(until).astimezone(UTC)
        return Ban(external_id, standing.ban.reason, ends)
