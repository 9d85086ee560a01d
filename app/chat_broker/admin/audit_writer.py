"""Writes the audit log: each admin request once, unknown keys counted per minute and address."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from chat_broker.admin.audit_log import (
    FOLD_SECONDS,
    AuditChain,
    AuditRecord,
    Outcome,
    PendingRecords,
    fold_key,
    unknown_key_record,
)
from chat_broker.chat.ports import StateUnavailable
from chat_broker_kit.text.timestamps import format_timestamp

log = structlog.get_logger(__name__)

ROUND_SECONDS: Final = 2.0
ABANDONED_SECONDS: Final = 120
"""The age of `touch` at which a pending record counts as left behind by a dead process."""
MAX_FOLDS: Final = 1_000
"""Addresses counted apart; the others of a flood are counted together, as `OTHERS`."""
OTHERS: Final = "many"


@dataclass(slots=True)
class _Fold:
    record: AuditRecord
    count: int = 0


@dataclass(slots=True)
class _Pending:
    """Requests of this process that are being carried out, and outcomes that could not be written yet."""

    running: set[str] = field(default_factory=set)
    ended: dict[str, AuditRecord] = field(default_factory=dict)


class AuditTrail:
    """Records the admin requests of this process. Fails closed: raises StateUnavailable if it cannot.

    Needs `run` in the background. *alone*: no other process uses the database, so every record that is
    pending at the start was left behind.
    """

    def __init__(
        self,
        chain: AuditChain,
        entries: PendingRecords,
        *,
        alone: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._chain = chain
        self._entries = entries
        self._alone = alone
        self._clock = clock
        self._folds: dict[str, _Fold] = {}
        self._pending = _Pending()
        self._flushing = asyncio.Lock()

    async def record(self, record: AuditRecord) -> None:
        """Add the final record of a request that changed nothing."""
        await self._chain.append(record)

    async def begin(self, record: AuditRecord) -> None:
        """Add the pending record of a request that will change data."""
        await self._entries.open(record)
        self._pending.running.add(record.id)

    async def finish(self, record: AuditRecord) -> None:
        """Write the outcome, which `run` repeats if the database does not respond now."""
        self._pending.running.discard(record.id)
        try:
            await self._entries.close(record)
        except StateUnavailable:
            self._pending.ended[record.id] = record
            log.warning("audit.late", action=record.action, record=record.id)

    async def unknown_key(self, *, address: str, request_id: str) -> None:
        """Count a request with an unknown key. The first of a minute is written at once."""
        now = self._clock()
        key = fold_key(address, now)
        if key not in self._folds and len(self._folds) >= MAX_FOLDS:
            address = OTHERS
            key = fold_key(address, now)
        fold = self._folds.get(key)
        first = fold is None
        if fold is None:
            record = unknown_key_record(address=address, request_id=request_id, seconds=now)
            fold = self._folds[key] = _Fold(record)
        fold.count += 1
        if first:
            await self.flush()

    async def flush(self) -> None:
        """Write the counts of unknown keys."""
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

    async def open_folds(self) -> list[AuditRecord]:
        """Pending counts of unknown keys in all processes, newest first."""
        await self.flush()
        return await self._entries.folds()

    async def run(self) -> None:
        """Until cancelled: write late outcomes and counts, and close what dead processes left pending."""
        if self._alone:
            await self._logging_errors(self._close_abandoned(older_than=0))
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            await self._logging_errors(self._round())

    async def stop(self) -> None:
        """Write late outcomes and counts a last time."""
        await self._logging_errors(self._round())

    async def _round(self) -> None:
        for record in list(self._pending.ended.values()):
            await self._entries.close(record)
            self._pending.ended.pop(record.id, None)
        await self.flush()
        if self._pending.running:
            await self._entries.touch(
                sorted(self._pending.running), format_timestamp(self._clock())
            )
        await self._close_abandoned(older_than=ABANDONED_SECONDS)

    async def _close_abandoned(self, *, older_than: int) -> None:
        now = self._clock()
        # A minute closes five seconds after its end, so that all processes can write their counts.
        minute = now // FOLD_SECONDS * FOLD_SECONDS - (
            FOLD_SECONDS if now % FOLD_SECONDS < 5 else 0
        )
        await self._entries.close_abandoned(
            requests_before=format_timestamp(now - older_than),
            folds_before=format_timestamp(minute),
        )

    async def _logging_errors(self, work: Awaitable[None]) -> None:
        try:
            await work
        except StateUnavailable as error:
            log.warning("audit.waiting", error=str(error))
        except Exception:  # a bug with one record must not stop the writing of all others
            log.exception("audit.failed")


def ended(record: AuditRecord, outcome: Outcome, *, code: str | None = None) -> AuditRecord:
    """*record* with its outcome; *code* is the error's."""
    detail = record.detail if code is None else record.detail | {"code": code}
    return replace(record, outcome=outcome, detail=detail)
