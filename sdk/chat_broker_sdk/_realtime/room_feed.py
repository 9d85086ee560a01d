"""Which messages of a room may be shown now, and what to do when the connection ends. Pure."""

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
    """Whether a refused join says that this is not the moment, and not that this is not the room."""
    return code in NOT_NOW or retry_after is not None


def may_reconnect(code: str | None, reconnect: bool | None) -> bool:
    """Whether trying again can help after the server said *code*; *reconnect* is its own opinion."""
    if code in STOP:
        return False
    return reconnect is not False


def pause_before_reconnect(attempt: int, *, spread: float, retry_after: float | None) -> float:
    """Seconds to wait before attempt *attempt* (from 1). *spread* in [0, 1): full jitter.

    A thousand clients that lost the same server must not come back in the same second.
    """
    pause = float(min(FIRST_PAUSE * 2.0 ** min(attempt, 10), LONGEST_PAUSE)) * spread
    return pause + min(retry_after or 0.0, 60.0)


class RoomFeed:
    """Puts the messages of one room in order of `seq`, each once, whatever way they came.

    Messages come live and, after a (re)join, as a list of missed ones; until that list is there, live
    ones are held back, *most* of them: what comes then is forgotten, and is missed in turn. Messages without `seq`
    pass as they come.
    """

    def __init__(self, since: int | None, *, most: int = 1000) -> None:
        self.last = since
        self._most = most
        self._newest = since or 0
        self._catching_up = True
        self._held: dict[int, Message] = {}

    @property
    def is_behind(self) -> bool:
        """A join must be answered before all that is known to exist can be shown."""
        return self._catching_up or self.has_gap

    @property
    def has_gap(self) -> bool:
        """A message is known to exist and cannot be shown, and no join is expected to bring what is missing."""
        return not self._catching_up and self.last is not None and self._newest > self.last

    def disconnected(self) -> None:
        """Live messages are held back again until the next join is answered."""
        self._catching_up = True

    def live(self, message: Message, *, room: bool = True) -> list[Message]:
        """One message came over the connection; what may be shown now. Without *room* it is left to the next join."""
        if message.seq is None:
            return [message]
        if self.last is not None and message.seq <= self.last:
            return []
        self._newest = max(self._newest, message.seq)
        if not room and self.last is not None:
            self._catching_up = True
            return []
        next_one = not self._catching_up and self.last in {None, message.seq - 1}
        if len(self._held) >= self._most and not next_one:
            return []
        self._held[message.seq] = message
        if self._catching_up:
            return []
        if self.last is None:
            self.last = message.seq - 1
        return self._ready()

    def joined(self, last_seq: int | None, missed: Iterable[Message]) -> list[Message]:
        """A join was answered; what may be shown now."""
        passed: list[Message] = []
        for message in missed:
            if message.seq is None:
                passed.append(message)
            elif self.last is None or message.seq > self.last:
                self._held.setdefault(message.seq, message)
        if self.last is None:
            # A message may have been sent to us live before the server looked up last_seq.
            starts = [seq - 1 for seq in self._held]
            self.last = min(starts if last_seq is None else [last_seq, *starts], default=None)
        self._newest = max(self._newest, last_seq or 0)
        self._catching_up = False
        return passed + self._ready()

    def give_up_gap(self) -> list[Message]:
        """The missing message cannot be had: show what is held back, in order."""
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
