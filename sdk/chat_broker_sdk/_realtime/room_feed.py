"""The order of a room's messages and changes, and when to join and connect again. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from chat_broker_sdk._models import Change, MemberEvent, Message, Model

STOP = frozenset({"token_revoked", "user_suspended", "user_deleted", "token_invalid"})
NOT_NOW = frozenset(
    {
        "database_unavailable",
        "internal_error",
        "rate_limited",
        "slow_down",
        "timeout",
        "unavailable",
        "writes_unavailable",
    }
)
NEEDS_NEW_TOKEN = "token_expired"  # noqa: S105 - a code
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 20.0


def may_join_again(code: str | None, retry_after: float | None) -> bool:
    """Whether a refused join may succeed later."""
    return code in NOT_NOW or retry_after is not None


def may_reconnect(code: str | None, reconnect: bool | None) -> bool:
    """Whether connecting again can succeed after an end with *code*. *reconnect*: the server's own statement."""
    if code in STOP:
        return False
    return reconnect is not False


def pause_before_reconnect(attempt: int, *, spread: float, retry_after: float | None) -> float:
    """Seconds to wait before attempt *attempt*, which counts from 1. *spread* is random in [0, 1): full jitter.

    Spreads the clients that have lost one server over time.
    """
    pause = float(min(FIRST_PAUSE * 2.0 ** min(attempt, 10), LONGEST_PAUSE)) * spread
    return pause + min(retry_after or 0.0, 60.0)


class RoomChange(NamedTuple):
    """A change of a room, as the event that tells it."""

    rev: int
    event: str
    value: Model


def missed_change(change: Change, room_id: str) -> RoomChange | None:
    """The event that tells *change*, which happened while the connection was lost. None for an unknown kind."""
    if change.message is not None:
        deleted = change.message.deleted_at is not None
        event = "message_deleted" if deleted else "message_updated"
        return RoomChange(change.rev, event, change.message)
    if change.room is not None:
        # As it is now, and its rev is the room's. An application that resumes from there would miss what follows.
        room = msgspec.structs.replace(change.room, rev=change.rev)
        return RoomChange(change.rev, "room_updated", room)
    if change.member is not None:
        return RoomChange(change.rev, "member_updated", change.member)
    if change.kind == "member" and change.user_id is not None:
        gone = MemberEvent(room_id=room_id, user_id=change.user_id, rev=change.rev)
        return RoomChange(change.rev, "user_left", gone)
    return None


class RoomFeed:
    """Delivers the messages of one room in order of `seq`, and its changes in order of `rev`, each once.

    Messages arrive live and, after a join, as a list of missed ones. Until that list has arrived, up to *max_held* live
    messages are held back; further ones are dropped, and fetched by the next join. Messages without `seq` are delivered
    at once. *since*: the last `seq` already delivered; None: start with the next message. *since_rev*: likewise the last
    `rev`; None until a join has told it, and on a server that does not number changes.
    """

    def __init__(
        self, since: int | None, *, since_rev: int | None = None, max_held: int = 1000
    ) -> None:
        self.last = since
        self.rev = since_rev
        self.epoch: str | None = None
        self.from_seq: int | None = None
        self.peek = False
        self.marks_delivery = False
        """Whether the server is to be told what has arrived: where others may see it."""
        self._newest_rev = since_rev or 0
        self._held_changes: dict[int, RoomChange] = {}
        self._overflow = False
        # Revs of messages whose present state has come with the missed ones, ahead of `rev`.
        self._ahead: dict[str, int] = {}
        self._max_held = max_held
        self._newest = since or 0
        self._catching_up = True
        self._held: dict[int, Message] = {}

    @property
    def is_behind(self) -> bool:
        """Whether a join is needed, or under way, to deliver all known messages."""
        return self._catching_up or self.has_gap

    @property
    def has_gap(self) -> bool:
        """Whether a message or change is missing and no join is under way that could bring it."""
        if self._catching_up:
            return False
        lacks_message = self.last is not None and self._newest > self.last
        return lacks_message or (self.rev is not None and self._newest_rev > self.rev)

    def disconnected(self) -> None:
        """The connection ended: hold live messages back until the next join."""
        self._catching_up = True

    def live(self, message: Message, *, defer: bool = False) -> list[Message]:
        """The messages to deliver after *message* has arrived live. With *defer* it is left to the next join."""
        if message.seq is None:
            return [message]
        # While a join is under way also older ones are held: it may be answered with a reset.
        if self.last is not None and message.seq <= self.last and not self._catching_up:
            return []
        self._newest = max(self._newest, message.seq)
        if defer and self.last is not None:
            self._catching_up = True
            return []
        is_next = not self._catching_up and self.last in {None, message.seq - 1}
        if (self._overflow or len(self._held) >= self._max_held) and not is_next:
            return []
        self._held[message.seq] = message
        if self._catching_up:
            return []
        if self.last is None:
            self.last = message.seq - 1
        return self._ready()

    def hidden_below(self, from_seq: int) -> None:
        """Wait for no message before *from_seq*: this user does not see them, and the server does not answer them."""
        if self.last is not None:
            self.last = max(self.last, from_seq - 1)

    def joined(self, last_seq: int | None, missed: Iterable[Message]) -> list[Message]:
        """The messages to deliver after a join has returned the room's *last_seq* and the *missed* messages."""
        passed: list[Message] = []
        for message in missed:
            if message.seq is None:
                passed.append(message)
            elif self.last is None or message.seq > self.last:
                self._hold(message)
        if self.last is None:
            # A live message may have arrived before the server read last_seq.
            starts = [seq - 1 for seq in self._held]
            self.last = min(starts if last_seq is None else [last_seq, *starts], default=None)
        self._newest = max(self._newest, last_seq or 0)
        self._catching_up = self._overflow = False
        if self.last is not None:
            self._held = {seq: each for seq, each in self._held.items() if seq > self.last}
        return passed + self._ready()

    def change(self, change: RoomChange, *, defer: bool = False) -> list[RoomChange]:
        """The changes to deliver after *change* has arrived live. With *defer* it is left to the next join."""
        if self.rev is None:
            return [change]
        if change.rev <= self.rev and not self._catching_up:
            return []
        self._newest_rev = max(self._newest_rev, change.rev)
        if defer:
            self._catching_up = True
            return []
        if self._catching_up:
            if len(self._held_changes) < self._max_held:
                self._held_changes[change.rev] = change
            else:
                # Messages without their changes would be stale: the next join has them as they are.
                self._held.clear()
                self._overflow = True
            return []
        return self._applied(change)

    def joined_changes(
        self, rev: int | None, changes: Iterable[RoomChange], *, complete: bool
    ) -> list[RoomChange]:
        """The changes to deliver after a join, and after its missed messages: *changes* up to the room's *rev*.

        *complete*: neither messages nor changes are left for another join.
        """
        if rev is None:
            return []
        if self.rev is None:
            self.rev = rev  # there is nothing to compare the present with
        by_rev = {change.rev: change for change in changes}
        # An incomplete answer says nothing of what is held beyond its last change, but a message that came live may
        # have been changed before that.
        upto = max([rev, *self._held_changes] if complete else [self.rev, *by_rev])
        for held in [each for each in self._held_changes if each <= upto]:
            by_rev[held] = self._held_changes.pop(held)
        ready: list[RoomChange] = []
        for each in sorted(by_rev):
            if each > self.rev:
                ready += self._applied(by_rev[each])
        if complete:
            self.rev = max(self.rev, rev)
            self._ahead.clear()
        else:
            self._catching_up = True
        self._newest_rev = max(self._newest_rev, self.rev)
        return ready

    def reset(
        self, last_seq: int | None, rev: int | None
    ) -> tuple[list[Message], list[RoomChange]]:
        """Start anew from the room's *last_seq* and *rev*. What has arrived live since then is to be delivered."""
        self.last = last_seq or 0
        self.rev = rev
        self._ahead.clear()
        self._newest = max(self._held, default=self.last)
        self._newest_rev = max(self._held_changes, default=rev or 0)
        messages = self.joined(last_seq, ())
        return messages, self.joined_changes(rev, (), complete=True)

    def give_up_gap(self) -> list[Message]:
        """The messages held back, to deliver without the missing ones."""
        rest = [self._held[seq] for seq in sorted(self._held)]
        self._held.clear()
        self._held_changes.clear()
        self._catching_up = False
        if self.last is not None:
            self.last = max(self.last, self._newest)
        if self.rev is not None:
            self.rev = max(self.rev, self._newest_rev)
        return rest

    def _hold(self, message: Message) -> None:
        """Keep the newest state of a message that is not to be delivered yet."""
        seq = message.seq or 0
        held = self._held.get(seq)
        if held is None or (message.rev or 0) > (held.rev or 0):
            self._held[seq] = message
        if self.rev is not None and (message.rev or 0) > self.rev:
            self._ahead[message.id] = message.rev or 0

    def _applied(self, change: RoomChange) -> list[RoomChange]:
        """*change*, unless it is about a message that is not delivered yet or was delivered in this state."""
        self.rev = change.rev
        message = change.value
        if not isinstance(message, Message) or self.last is None or message.seq is None:
            return [change]
        if message.seq > self.last:
            # It comes after the messages before it, as it is now.
            self._newest = max(self._newest, message.seq)
            if message.seq in self._held:
                self._hold(message)
            return []
        return [] if self._ahead.get(message.id, 0) >= change.rev else [change]

    def _ready(self) -> list[Message]:
        ready: list[Message] = []
        while self.last is not None and (message := self._held.pop(self.last + 1, None)):
            self.last += 1
            ready.append(message)
        return ready
