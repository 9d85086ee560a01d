"""The order of a room's messages, and when to join and connect again. Pure."""

from collections.abc import Iterable

from chat_broker_sdk._models import Message

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


class RoomFeed:
    """Delivers the messages of one room in order of `seq`, each once.

    Messages arrive live and, after a join, as a list of missed ones. Until that list has arrived, up to *max_held* live
    messages are held back; further ones are dropped, and fetched by the next join. Messages without `seq` are delivered
    at once. *since*: the last `seq` already delivered; None: start with the next message.
    """

    def __init__(self, since: int | None, *, max_held: int = 1000) -> None:
        self.last = since
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
        """Whether a message is missing and no join is under way that could bring it."""
        return not self._catching_up and self.last is not None and self._newest > self.last

    def disconnected(self) -> None:
        """The connection ended: hold live messages back until the next join."""
        self._catching_up = True

    def live(self, message: Message, *, defer: bool = False) -> list[Message]:
        """The messages to deliver after *message* has arrived live. With *defer* it is left to the next join."""
        if message.seq is None:
            return [message]
        if self.last is not None and message.seq <= self.last:
            return []
        self._newest = max(self._newest, message.seq)
        if defer and self.last is not None:
            self._catching_up = True
            return []
        is_next = not self._catching_up and self.last in {None, message.seq - 1}
        if len(self._held) >= self._max_held and not is_next:
            return []
        self._held[message.seq] = message
        if self._catching_up:
            return []
        if self.last is None:
            self.last = message.seq - 1
        return self._ready()

    def joined(self, last_seq: int | None, missed: Iterable[Message]) -> list[Message]:
        """The messages to deliver after a join has returned the room's *last_seq* and the *missed* messages."""
        passed: list[Message] = []
        for message in missed:
            if message.seq is None:
                passed.append(message)
            elif self.last is None or message.seq > self.last:
                self._held.setdefault(message.seq, message)
        if self.last is None:
            # A live message may have arrived before the server read last_seq.
            starts = [seq - 1 for seq in self._held]
            self.last = min(starts if last_seq is None else [last_seq, *starts], default=None)
        self._newest = max(self._newest, last_seq or 0)
        self._catching_up = False
        return passed + self._ready()

    def give_up_gap(self) -> list[Message]:
        """The messages held back, to deliver without the missing ones."""
        rest = [self._held[seq] for seq in sorted(self._held)]
        self._held.clear()
        if self.last is not None:
            self.last = max(self.last, self._newest)
        return rest

    def _ready(self) -> list[Message]:
        ready: list[Message] = []
        while self.last is not None and (message := self._held.pop(self.last + 1, None)):
            self.last += 1
            ready.append(message)
        return ready
