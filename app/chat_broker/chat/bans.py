"""Bans, and revocations that come while a token is minted.

A banned user may not chat. A revocation (every ban is one, too) must also stop tokens that are being minted. So each
user has a *revocation mark* in the database, a counter that every revocation raises before the Chat API is told. A mint
reads it before and after; if it has changed, the token is not handed out. No clock is involved.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from chat_broker.chat.ports import Ban
from chat_broker.errors import Conflict, user_suspended
from chat_broker_kit.bounded_cache import ExpiringCache
from chat_broker_kit.text.timestamps import format_timestamp, parse_timestamp

T = TypeVar("T")

CACHED_FOR = 1.0
"""Seconds for which a ban look-up is cached: so long a replica may not know of a ban made by another one (at once, with Redis)."""
MOST_CACHED = 20_000

Pending = Literal["suspend", "free"]


@dataclass(frozen=True, slots=True)
class BanRecord:
    """One ban. Times are RFC 3339 text in UTC; *until* None: for good.

    *suspended*: the broker has suspended the chat user for this ban, so it ends the suspension with the ban.
    *pending*: the request to the Chat API that is still to be sent.
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
        """Whether the ban is in force at *now*. It ends at *until* by itself."""
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
    """A user's revocation mark, and the latest ban that was not lifted. The ban's time may be over."""

    revocation_mark: int
    ban: BanRecord | None = None


class BanBook(Protocol):
    """Bans and revocation marks, durable. Every method raises StateUnavailable when the database does not answer."""

    async def ban_status(self, external_id: str) -> BanStatus:
        """The ban status; the revocation mark is the sum of the user's own and that of all users."""
        ...

    async def raise_revocation_mark(self, external_id: str | None) -> None:
        """Raise the revocation mark of one user, or of all users (None); durable on return."""
        ...

    async def ban(self, record: BanRecord) -> None:
        """Put *record* in force, in place of an older one, and raise the revocation mark; durable on return."""
        ...

    async def lift(self, external_id: str, *, by: str, at: str) -> BanRecord | None:
        """End the ban in force and return it, changed; None if there is none."""
        ...

    async def history(self, external_id: str, *, limit: int = 100) -> list[BanRecord]:
        """Bans of a user, latest first."""
        ...

    async def unsettled(self, now: str, *, limit: int = 100) -> list[BanRecord]:
        """Bans of which the Chat API does not know yet that they were made, were lifted, or ended before *now*."""
        ...

    async def settle(self, record: BanRecord, *, suspended: bool) -> bool:
        """The Chat API has been told; *suspended*: the chat user is suspended for this ban now.

        False, and nothing changed, if the ban is not as in *record* any more.
        """
        ...

    async def count(self, now: str) -> int:
        """How many bans are in force."""
        ...


revocations_before: ContextVar[int | None] = ContextVar("revocations_before", default=None)
"""`BanStatuses.revocations` at the time when the current request arrived."""


class BanStatuses:
    """The ban statuses of users, cached for a second, and the revocations that this process knows of.

    Raises only StateUnavailable; then no user is admitted. *exact*: only this process writes bans, so its cache is
    always right. Otherwise each mint reads the database.
    """

    def __init__(
        self,
        book: BanBook,
        *,
        exact: bool = False,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], str] = format_timestamp,
        most: int = MOST_CACHED,
    ) -> None:
        self._book = book
        self._exact = exact
        self._clock = clock
        self._now = now
        self._most = most
        self._known = ExpiringCache[str, BanStatus](most, clock=clock)
        self._readings = 0
        self._revocations = 0
        self._revoked: OrderedDict[str, int] = OrderedDict()
        """By external id: the number of the user's last revocation."""
        self._all_revoked = 0

    async def active_ban(self, external_id: str) -> Ban | None:
        """The ban in force, if there is one. Takes microseconds if the user's status is in the cache."""
        status = self._known.get(external_id) or await self.ban_status(external_id)
        return None if status.ban is None else self._ban_in(external_id, status)

    async def ban_status(self, external_id: str, *, fresh: bool = False) -> BanStatus:
        """The ban status of a user. *fresh*: not from the cache, unless that is exact."""
        known = self._known.get(external_id) if self._exact or not fresh else None
        if known is not None:
            return known
        readings = self._readings
        until = self._clock() + CACHED_FOR
        found = await self._book.ban_status(external_id)
        if readings == self._readings:  # else a ban came while the database was read
            self._known.put(external_id, found, until=until)
        return found

    def holds(self, status: BanStatus) -> bool:
        """Whether *status* has a ban that is in force now."""
        return status.ban is not None and status.ban.holds(self._now())

    def forget(self, external_id: str | None) -> None:
        """Drop the cached status of one user, or of all (None)."""
        self._readings += 1
        if external_id is None:
            self._known.forget_all()
        else:
            self._known.forget(external_id)

    def note_revocation(self, external_id: str | None) -> None:
        """The tokens of one user, or of all users (None), have been revoked: running mints must not hand theirs out."""
        self.forget(external_id)
        self._revocations += 1
        if external_id is None:
            self._revoked.clear()
            self._all_revoked = self._revocations
            return
        self._revoked[external_id] = self._revocations
        self._revoked.move_to_end(external_id)
        if len(self._revoked) > self._most:
            # Users who are dropped here count as revoked at the time of the last one dropped.
            self._all_revoked = max(self._all_revoked, self._revoked.popitem(last=False)[1])

    @property
    def revocations(self) -> int:
        """How many revocations this process knows of: orders requests and revocations without a clock."""
        return self._revocations

    def note_token_request(self) -> None:
        """A request for a token has arrived: a revocation from now on must stop its token."""
        revocations_before.set(self._revocations)

    def revoked_since(self, external_id: str, revocations: int) -> bool:
        """Whether the user's tokens were revoked, as far as this process knows, since there were *revocations*."""
        return max(self._revoked.get(external_id, 0), self._all_revoked) > revocations

    def _ban_in(self, external_id: str, status: BanStatus) -> Ban | None:
        if not self.holds(status) or status.ban is None:
            return None
        until = status.ban.until
        ends = None if until is None else parse_timestamp(until)
        return Ban(external_id, status.ban.reason, ends)


class MintGuard:
    """Hands no token out that was revoked, or whose user was banned, before it was minted or meanwhile."""

    def __init__(
        self,
        book: BanBook,
        ban_statuses: BanStatuses,
        *,
        end_suspension: Callable[[BanRecord], Awaitable[object]],
        tell: Callable[[str | None], Awaitable[None]],
    ) -> None:
        """*end_suspension* tells the Chat API that a ban has ended; *tell* tells the other replicas of a revocation."""
        self._book = book
        self._ban_statuses = ban_statuses
        self._end_suspension = end_suspension
        self._tell = tell

    async def mint(self, external_id: str, mint: Callable[[], Awaitable[T]]) -> T:
        """The result of *mint*, if it may be handed out.

        Raises Refused `user_suspended` for a banned user, Conflict `token_revoked` if a revocation
        came meanwhile, StateUnavailable if the database cannot be read.
        """
        revocations = revocations_before.get()
        if revocations is None:
            revocations = self._ban_statuses.revocations
        before = await self._ban_statuses.ban_status(external_id, fresh=True)
        if self._ban_statuses.holds(before):
            raise user_suspended()
        if before.ban is not None and before.ban.suspended:
            await self._end_suspension(before.ban)
        made = await mint()
        after = await self._ban_statuses.ban_status(external_id, fresh=True)
        if self._ban_statuses.holds(after):
            raise user_suspended()
        if after.revocation_mark != before.revocation_mark or self._ban_statuses.revoked_since(
            external_id, revocations
        ):
            raise Conflict(
                "token_revoked",
                "The user's tokens were revoked while this one was made. Ask again.",
            )
        return made

    async def revoke(self, external_id: str | None) -> None:
        """From now on no running mint of the user (None: of any user) hands out its token.

        Durable, and known to this process, on return. Call it before the Chat API is told.
        """
        await self._book.raise_revocation_mark(external_id)
        await self.announce_revocation(external_id)

    async def announce_revocation(self, external_id: str | None) -> None:
        """Tell this process and the other replicas of a revocation that the database has already."""
        self._ban_statuses.note_revocation(external_id)
        await self._tell(external_id)
