"""Counts and logs requests from origins that no setting lists."""

import re
import time
from collections.abc import Callable

from chat_broker_kit.logs.sampling import EventLog

MOST_LOGGED = 20
"""Origins a minute. Of further ones only the number is logged."""
_PRINTABLE = re.compile(r"[\x21-\x7e]{1,200}")


class RefusedOrigins:
    """The refused origins of one process. *count* is called for each refusal; *clock* returns seconds."""

    def __init__(
        self,
        log: EventLog,
        count: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._count = count
        self._clock = clock
        self._minute = 0
        self._seen: dict[str, int] = {}
        self._others = 0

    def refuse(self, origins: list[bytes], *, of: str, request_id: str = "") -> str:
        """Record a refused request (*of*: `preflight` or `handshake`), and return the message for the client.

        *origins*: the values of its Origin header.
        """
        self._count()
        self._log_last_minute()
        origin = origins[0].decode("latin-1") if len(origins) == 1 else ""
        shown = origin if _PRINTABLE.fullmatch(origin) else "(unreadable)"
        if shown in self._seen:
            self._seen[shown] += 1
        elif len(self._seen) >= MOST_LOGGED:
            self._others += 1
        else:
            self._seen[shown] = 1
            about = {"request_id": request_id} if request_id else {}
            self._log.warning(
                "origin.refused", origin=shown, of=of, setting="CORS_ORIGINS", **about
            )
        return f"The origin {shown} is not allowed: CORS_ORIGINS does not list it."

    def _log_last_minute(self) -> None:
        minute = int(self._clock() // 60)
        if minute == self._minute:
            return
        for origin, times in self._seen.items():
            if times > 1:
                self._log.warning("origin.refused_again", origin=origin, times=times - 1)
        if self._others:
            self._log.warning("origin.others_refused", times=self._others)
        self._minute, self._seen, self._others = minute, {}, 0
