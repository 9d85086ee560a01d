"""One socket as the server knows it, and all of them by user."""

import asyncio
import time
from collections.abc import Iterator

from chat_broker_kit.allowance import Allowance
from chat_broker_server.credentials.tokens import Claims
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.realtime.send_queue import Outgoing

RoomKey = tuple[str, str]
"""Project and room."""
UserKey = tuple[str, str]
"""Project and user."""


class Connection:
    """One Engine.IO connection; who it is stands in `claims` once the token has been checked, and nowhere else."""

    __slots__ = (
        "__weakref__",
        "claims",
        "connects",
        "display_name",
        "eio_sid",
        "ended",
        "events",
        "joining",
        "lock",
        "outbox",
        "refusals",
        "rooms",
        "strikes",
        "timer",
    )

    def __init__(self, eio_sid: str, outbox: Outgoing, limits: Limits) -> None:
        now = time.monotonic()
        self.eio_sid = eio_sid
        self.outbox = outbox
        self.claims: Claims | None = None
        self.display_name: str | None = None  # of its user, as of the last room it has joined
        self.rooms: set[RoomKey] = set()
        self.joining: RoomKey | None = None
        self.lock = asyncio.Lock()
        self.events = Allowance(limits.events_per_second, limits.event_burst, now)
        self.refusals = Allowance(1.0, limits.refused_burst, now)
        self.strikes = 0
        self.connects = 0
        self.timer: asyncio.TimerHandle | None = None
        self.ended = False

    def after(self, timer: asyncio.TimerHandle | None) -> None:
        """Replace the one timer of this connection: for its authentication first, for its token later."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = timer


class Connections:
    """All connections of this node."""

    def __init__(self) -> None:
        self._by_sid: dict[str, Connection] = {}
        self._by_user: dict[UserKey, set[Connection]] = {}

    def __len__(self) -> int:
        return len(self._by_sid)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._by_sid.values()))

    @property
    def authenticated(self) -> int:
        """How many of them have shown a good token."""
        return sum(map(len, self._by_user.values()))

    def get(self, eio_sid: str) -> Connection | None:
        """The connection with this Engine.IO session."""
        return self._by_sid.get(eio_sid)

    def of(self, user: UserKey) -> list[Connection]:
        """The connections of *user* here."""
        return list(self._by_user.get(user, ()))

    def users(self) -> list[UserKey]:
        """Everybody who is connected here."""
        return list(self._by_user)

    def add(self, connection: Connection) -> None:
        """A new connection of nobody yet."""
        self._by_sid[connection.eio_sid] = connection

    def name(self, connection: Connection, claims: Claims) -> None:
        """From now on *connection* is that user's."""
        connection.claims = claims
        self._by_user.setdefault((claims.pid, claims.sub), set()).add(connection)

    def unname(self, connection: Connection) -> None:
        """From now on *connection* is nobody's."""
        if connection.claims is None:
            return
        key = (connection.claims.pid, connection.claims.sub)
        connection.claims = None
        others = self._by_user.get(key)
        if others is not None:
            others.discard(connection)
            if not others:
                del self._by_user[key]

    def remove(self, connection: Connection) -> None:
        """It is gone."""
        self.unname(connection)
        self._by_sid.pop(connection.eio_sid, None)
