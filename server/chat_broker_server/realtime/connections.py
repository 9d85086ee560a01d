"""A connection, and all connections of this node by user."""

import asyncio
import time
from collections.abc import Callable, Iterator

from chat_broker_kit.token_bucket import TokenBucket
from chat_broker_server.credentials.tokens import Claims
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.realtime.send_queue import SendQueue

RoomKey = tuple[str, str]
"""Project and room."""
UserKey = tuple[str, str]
"""Project and user."""


class Connection:
    """One Engine.IO connection. `claims`, of its checked token, are None until it has signed in."""

    __slots__ = (
        "__weakref__",
        "claims",
        "connects",
        "display_name",
        "eio_sid",
        "ended",
        "events",
        "hidden",
        "joining",
        "knows_revs",
        "lock",
        "peeked_rooms",
        "refusals",
        "rooms",
        "sees_receipts",
        "send_queue",
        "strikes",
        "timer",
        "watched_users",
    )

    def __init__(self, eio_sid: str, send_queue: SendQueue, limits: Limits) -> None:
        now = time.monotonic()
        self.eio_sid = eio_sid
        self.send_queue = send_queue
        self.claims: Claims | None = None
        self.display_name: str | None = None  # of the user, as read with the last joinRoom
        self.rooms: set[RoomKey] = set()
        self.peeked_rooms: set[RoomKey] = set()  # those of `rooms` that its user is no member of
        self.joining: RoomKey | None = None
        self.knows_revs = (
            False  # only then does it get kinds of events that older clients do not know
        )
        self.sees_receipts = True  # False for a user who shows none, as read with the last joinRoom
        self.hidden: bool | None = None  # whether its user is not to be seen online; None: not read
        self.watched_users: tuple[WatchedUser, ...] = ()  # whose presence it is told
        self.lock = asyncio.Lock()
        self.events = TokenBucket(limits.events_per_second, limits.event_burst, now)
        self.refusals = TokenBucket(1.0, limits.refused_burst, now)
        self.strikes = 0
        self.connects = 0
        self.timer: asyncio.TimerHandle | None = None
        self.ended = False

    def after(self, timer: asyncio.TimerHandle | None) -> None:
        """Replace the connection's timer: first of the handshake, later of the token."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = timer


class WatchedUser:
    """A user whom sockets of this node watch."""

    __slots__ = ("hidden", "key", "watchers")

    def __init__(self, key: UserKey) -> None:
        self.key = key
        self.hidden = False
        self.watchers: set[Connection] = set()


class Connections:
    def __init__(self) -> None:
        self.came: Callable[[UserKey], None] = lambda _: None
        """Called when the first socket of a user has signed in."""
        self.went: Callable[[UserKey], None] = lambda _: None
        """Called when the last one has signed out or ended."""
        self._by_sid: dict[str, Connection] = {}
        self._by_user: dict[UserKey, set[Connection]] = {}

    def __len__(self) -> int:
        return len(self._by_sid)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._by_sid.values()))

    @property
    def authenticated(self) -> int:
        """How many have signed in."""
        return sum(map(len, self._by_user.values()))

    def get(self, eio_sid: str) -> Connection | None:
        return self._by_sid.get(eio_sid)

    def of(self, user: UserKey) -> list[Connection]:
        """The connections of *user* here."""
        return list(self._by_user.get(user, ()))

    def users(self) -> list[UserKey]:
        return list(self._by_user)

    def add(self, connection: Connection) -> None:
        self._by_sid[connection.eio_sid] = connection

    def sign_in(self, connection: Connection, claims: Claims) -> None:
        connection.claims = claims
        user = (claims.pid, claims.sub)
        others = self._by_user.setdefault(user, set())
        others.add(connection)
        if len(others) == 1:
            self.came(user)

    def sign_out(self, connection: Connection) -> None:
        if connection.claims is None:
            return
        key = (connection.claims.pid, connection.claims.sub)
        connection.claims = None
        others = self._by_user.get(key)
        if others is not None:
            others.discard(connection)
            if not others:
                del self._by_user[key]
                self.went(key)

    def remove(self, connection: Connection) -> None:
        self.sign_out(connection)
        self._by_sid.pop(connection.eio_sid, None)
