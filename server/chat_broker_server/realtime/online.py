"""Who is online: has an open socket on some node, or had one a moment ago.

A node tells the others when the first socket of a user opens and the last one closes, and repeats now and then who is
there, since such messages may be lost. Each node works out by itself who has gone.
"""

import zlib
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from chat_broker_server.chat.ids import timestamp
from chat_broker_server.cluster.nodes import OnlineChange, UsersOnline
from chat_broker_server.realtime.clock import Clock, Timer
from chat_broker_server.realtime.connections import UserKey

GRACE: Final = 15.0
"""Seconds after which a user without a socket is offline: a reconnect is not seen."""
WRITE_AGAIN: Final = 300.0
"""Seconds after which it is written again when a user who is online was last seen."""
_WRITES_AT_ONCE: Final = 500
_TIMER_STEP: Final = 0.5  # so that those who go one after the other are told together
_PARTS: Final = 8  # in which it is repeated who is here


class _Leaving(NamedTuple):
    until: float
    seen_at: str
    writes: bool
    """Whether it is for this node to write when the user was last seen."""


Told = Callable[[UserKey, bool, str | None], None]
"""(user, whether they are online, when they were last seen)"""


class OnlineUsers:
    """The users of all nodes. Other nodes' are those that they told of."""

    def __init__(
        self,
        clock: Clock,
        broadcast: Callable[[OnlineChange | UsersOnline], None],
        told: Told,
        write_seen: Callable[[dict[UserKey, str]], None],
    ) -> None:
        """*told* is called when a user comes or has gone, *write_seen* when it is to be written when users were last seen."""
        self._clock = clock
        self._broadcast = broadcast
        self._told = told
        self._write_seen = write_seen
        self._here: dict[
            UserKey, float
        ] = {}  # since when their last seeing is written; the oldest first
        self._parts: list[dict[UserKey, None]] = [{} for _ in range(_PARTS)]  # of those here
        self._elsewhere: dict[str, list[set[UserKey]]] = {}
        self._leaving: dict[UserKey, _Leaving] = {}  # the first to go first
        self._timer: Timer | None = None
        self._next_part = 0

    def __len__(self) -> int:
        """How many users have a socket on this node."""
        return len(self._here)

    def is_online(self, user: UserKey) -> bool:
        return user in self._here or user in self._leaving or self._is_elsewhere(user)

    # -- this node --------------------------------------------------------------------------------

    def came(self, user: UserKey) -> None:
        """The user's first socket of this node has opened."""
        self._note_came(user)
        self._here[user] = self._clock.time()
        self._parts[_part_of(user[1])][user] = None
        self._broadcast(OnlineChange(user[0], came=[user[1]]))

    def went(self, user: UserKey) -> None:
        """The user's last socket of this node has closed."""
        del self._here[user]
        del self._parts[_part_of(user[1])][user]
        self._broadcast(OnlineChange(user[0], went=[user[1]]))
        self._note_went((user,), writes=True)

    def announce(self) -> None:
        """Tell the other nodes a part of the users that are here. Called every few seconds."""
        self._announce(self._next_part)
        self._next_part = (self._next_part + 1) % _PARTS

    def announce_all(self) -> None:
        """Tell the other nodes all users that are here. Called when a node has joined or messages were lost."""
        for part in range(_PARTS):
            self._announce(part)

    def write_again(self) -> None:
        """Have it written that users who are online for long were seen now. Called every few seconds."""
        now = self._clock.time()
        due: list[UserKey] = []
        for user, since in self._here.items():
            if now - since < WRITE_AGAIN or len(due) == _WRITES_AT_ONCE:
                break
            due.append(user)
        for user in due:
            del self._here[user]
            self._here[user] = now
        if due:
            self._write_seen(dict.fromkeys(due, timestamp()))

    def leave_now(self) -> dict[UserKey, str]:
        """End all waiting. Returns when the users were last seen for whom this node has to write it."""
        if self._timer is not None:
            self._timer.cancel()
        seen = {user: each.seen_at for user, each in self._leaving.items() if each.writes}
        self._leaving.clear()
        return seen

    def _announce(self, part: int) -> None:
        users: dict[str, list[str]] = {}
        for pid, user_id in self._parts[part]:
            users.setdefault(pid, []).append(user_id)
        self._broadcast(UsersOnline(part, users))

    # -- other nodes ------------------------------------------------------------------------------

    def update_node(self, node: str, change: OnlineChange) -> None:
        """Another node has told who came or went there."""
        for user_id in change.came:
            self._add(node, (change.project_id, user_id))
        for user_id in change.went:
            self._discard(node, [(change.project_id, user_id)])

    def replace_part(self, node: str, whole: UsersOnline) -> None:
        """Another node has told a part of who is there."""
        if not 0 <= whole.part < _PARTS:
            return
        now = {(pid, user_id) for pid, user_ids in whole.users.items() for user_id in user_ids}
        known = self._of_node(node)[whole.part]
        gone = [user for user in known if user not in now]
        for user in now - known:
            self._add(node, user)
        if gone:
            self._discard(node, gone)

    def remove_node(self, node: str, *, writes: bool) -> None:
        """A node has stopped. *writes*: this node writes when its users were last seen."""
        users = [user for part in self._elsewhere.pop(node, ()) for user in part]
        self._note_went(users, writes=writes)

    def _of_node(self, node: str) -> list[set[UserKey]]:
        return self._elsewhere.setdefault(node, [set() for _ in range(_PARTS)])

    def _add(self, node: str, user: UserKey) -> None:
        self._note_came(user)
        self._of_node(node)[_part_of(user[1])].add(user)

    def _discard(self, node: str, users: Iterable[UserKey]) -> None:
        parts, gone = self._of_node(node), []
        for user in users:
            part = parts[_part_of(user[1])]
            if user in part:
                part.discard(user)
                gone.append(user)
        self._note_went(gone, writes=False)

    def _is_elsewhere(self, user: UserKey) -> bool:
        part = _part_of(user[1])
        return any(user in parts[part] for parts in self._elsewhere.values())

    # -- coming and going -------------------------------------------------------------------------

    def _note_came(self, user: UserKey) -> None:
        """Called before the user is noted to be there."""
        if not self.is_online(user):
            self._told(user, True, None)
        self._leaving.pop(user, None)

    def _note_went(self, users: Iterable[UserKey], *, writes: bool) -> None:
        """Called after the users are noted to be gone from some node."""
        until, seen_at = self._clock.time() + GRACE, timestamp()
        for user in users:
            if user not in self._here and not self._is_elsewhere(user):
                self._leaving[user] = _Leaving(until, seen_at, writes)
        if self._leaving and self._timer is None:
            self._timer = self._clock.call_later(GRACE, self._end_waiting)

    def _end_waiting(self) -> None:
        now, gone = self._clock.time(), dict[UserKey, _Leaving]()
        for user, each in self._leaving.items():
            if each.until > now:
                break
            gone[user] = each
        for user, each in gone.items():
            del self._leaving[user]
            self._told(user, False, each.seen_at)
        self._timer = None
        if self._leaving:
            first = next(iter(self._leaving.values())).until
            wait = max(first - now, _TIMER_STEP)
            self._timer = self._clock.call_later(wait, self._end_waiting)
        seen = {user: each.seen_at for user, each in gone.items() if each.writes}
        if seen:
            self._write_seen(seen)


def _part_of(user_id: str) -> int:
    """In which part a user is repeated: the same on all nodes."""
    return zlib.crc32(user_id.encode()) % _PARTS
