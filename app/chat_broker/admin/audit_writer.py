"""Writes the audit: each admin call once, calls with unknown keys folded, nothing lost when a process dies."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from chat_broker.admin.audit_log import (
    FOLD_SECONDS,
    Chain,
    OpenEntries,
    Outcome,
    Record,
    fold_key,
    unknown_key_call,
)
from chat_broker.chat.ports import StateUnavailable
from chat_broker_kit.text.instants import instant

log = structlog.get_logger(__name__)

ROUND_SECONDS: Final = 2.0
GIVEN_UP_SECONDS: Final = 120
"""A call that nobody has spoken for that long is nobody's any more."""
MOST_FOLDS: Final = 1_000
"""Addresses counted apart in one round; the rest of a flood is counted together."""
CROWD: Final = "many"


@dataclass(slots=True)
class _Fold:
    record: Record
    count: int = 0


@dataclass(slots=True)
class _Late:
    """Calls of this process that are open, and outcomes that could not be written yet."""

    running: set[str] = field(default_factory=set)
    ended: dict[str, Record] = field(default_factory=dict)


class AuditTrail:
    """The audit of this process. Raises StateUnavailable when it cannot record: then nothing may happen.

    `run` has to run beside it. *alone*: no other process uses the database, so what is open at the
    start was left behind.
    """

    def __init__(
        self,
        chain: Chain,
        entries: OpenEntries,
        *,
        alone: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._chain = chain
        self._entries = entries
        self._alone = alone
        self._clock = clock
        self._folds: dict[str, _Fold] = {}
        self._late = _Late()
        self._flushing = asyncio.Lock()

    async def record(self, record: Record) -> None:
        """Put the record of something that changed nothing into the chain."""
        await self._chain.append(record)

    async def begin(self, record: Record) -> None:
        """Note down a call that is about to change something."""
        await self._entries.open(record)
        self._late.running.add(record.id)

    async def finish(self, record: Record) -> None:
        """Record how it ended. It has happened: what cannot be written now is written later."""
        self._late.running.discard(record.id)
        try:
            await self._entries.close(record)
        except StateUnavailable:
            self._late.ended[record.id] = record
            log.warning("audit.late", action=record.action, record=record.id)

    async def unknown_key(self, *, address: str, request_id: str) -> None:
        """Count a call with an unknown key. The first of a minute is recorded at once."""
        now = self._clock()
        key = fold_key(address, now)
        if key not in self._folds and len(self._folds) >= MOST_FOLDS:
            address = CROWD
            key = fold_key(address, now)
        fold = self._folds.get(key)
        first = fold is None
        if fold is None:
            record = unknown_key_call(address=address, request_id=request_id, seconds=now)
            fold = self._folds[key] = _Fold(record)
        fold.count += 1
        if first:
            await self.flush()

    async def flush(self) -> None:
        """Write the counts of unknown keys that are not written yet."""
        async with self._flushing:
            for key, fold in list(self._folds.items()):
                count, fold.count = fold.count, 0
                if count:
                    try:
                        await self._entries.fold(key, fold.record, count)
                    except StateUnavailable:
                        fold.count += count
                        raise
                if key.rpartition("|")[2] != str(int(self._clock() // FOLD_SECONDS)):
                    self._folds.pop(key, None)

    async def open_folds(self) -> list[Record]:
        """Counts that go on, newest first, everywhere."""
        await self.flush()
        return await self._entries.folds()

    async def run(self) -> None:
        """Tidy up until cancelled: late outcomes, counts, and what dead processes left open."""
        if self._alone:
            await self._quietly(self._close_overdue(calls=0))
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            await self._quietly(self._round())

    async def stop(self) -> None:
        """Write what is left to write."""
        await self._quietly(self._round())

    async def _round(self) -> None:
        for record in list(self._late.ended.values()):
            await self._entries.close(record)
            self._late.ended.pop(record.id, None)
        await self.flush()
        if self._late.running:
            await self._entries.touch(sorted(self._late.running), instant(self._clock()))
        await self._close_overdue(calls=GIVEN_UP_SECONDS)

    async def _close_overdue(self, *, calls: int) -> None:
        now = self._clock()
        # A minute that has ended, and a moment for those who have counted and not written yet.
        minute = now // FOLD_SECONDS * FOLD_SECONDS - (
            FOLD_SECONDS if now % FOLD_SECONDS < 5 else 0
        )
        await self._entries.close_overdue(
            calls_before=instant(now - calls), folds_before=instant(minute)
        )

    async def _quietly(self, work: Awaitable[None]) -> None:
        try:
            await work
        except StateUnavailable as error:
            log.warning("audit.waiting", error=str(error))
        except Exception:  # a bug with one record must not end the tidying up of all others
            log.exception("audit.failed")


def ended(record: Record, outcome: Outcome, *, code: str | None = None) -> Record:
    """*record* with how it ended; *code* is the problem's."""
    detail = record.detail if code is None else record.detail | {"code": code}
    return replace(record, outcome=outcome, detail=detail)
