"""The operators' side of the broker, opened in one place: keys, bans, audit, and what runs beside them."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from chat_broker.admin.access import AdminGate
from chat_broker.admin.audit_log import Chain, OpenEntries
from chat_broker.admin.audit_writer import AuditTrail
from chat_broker.admin.keys import KeyRing, KeyRows
from chat_broker.admin.operations import Operations
from chat_broker.admission.rate_limits import Limiter
from chat_broker.chat.bans import BanBook, BanRecord, MintGuard, Standings
from chat_broker.chat.ports import Hints, RoomChanges
from chat_broker.settings import Settings
from chat_broker_kit.tasks import end
from chat_broker_sdk import AsyncChatClient

TOPIC = "standing"
"""What replicas tell each other when somebody was cut off."""


@dataclass(frozen=True, slots=True)
class OperatorStorage:
    """What the operators' side keeps, and how it hears of other replicas.

    *alone*: no other process uses the same storage.
    """

    keys: KeyRows
    bans: BanBook
    chain: Chain
    open_entries: OpenEntries
    room_changes: RoomChanges
    hints: Hints
    alone: bool


@dataclass(frozen=True, slots=True)
class Operators:
    """All that the admin routes, the gate and the broker need of it."""

    gate: AdminGate
    operations: Operations
    keys: KeyRows
    chain: Chain
    trail: AuditTrail
    book: BanBook
    standings: Standings
    guard: MintGuard


@asynccontextmanager
async def open_operators(
    settings: Settings, storage: OperatorStorage, chat: AsyncChatClient, limiter: Limiter
) -> AsyncIterator[Operators]:
    """The operators' side, with its background work, for as long as the block lasts."""
    book = storage.bans
    standings = Standings(book, exact=storage.alone)

    def heard(external_id: str | None) -> None:
        # None comes after a gap, in which anything may have changed: that cuts nobody off.
        if external_id is None:
            standings.forget(None)
        else:
            standings.cut(external_id)

    async def tell(external_id: str | None) -> None:
        await storage.hints.tell(TOPIC, external_id)

    async def let_go(record: BanRecord) -> None:
        await operations.settle(record)

    guard = MintGuard(book, standings, let_go=let_go, tell=tell)
    operations = Operations(
        chat, book, standings, guard, storage.room_changes, token_ttl=settings.token_ttl
    )
    keys = storage.keys
    trail = AuditTrail(storage.chain, storage.open_entries, alone=storage.alone)
    bootstrap = None if settings.admin_key is None else settings.admin_key.get_secret_value()
    gate = AdminGate(KeyRing(keys, bootstrap), trail, limiter)
    storage.hints.on(TOPIC, heard)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(trail.stop)
        for name, work in (("audit", trail.run()), ("bans", operations.run())):
            stack.push_async_callback(end, _started(name, work))
        yield Operators(gate, operations, keys, storage.chain, trail, book, standings, guard)


def _started(name: str, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    return asyncio.create_task(work, name=name)
