"""Opens the services of the admin routes: access, operations, audit log, and their background tasks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from chat_broker.admin.access import AdminAccess
from chat_broker.admin.audit_log import AuditChain, PendingRecords
from chat_broker.admin.audit_writer import AuditTrail
from chat_broker.admin.keys import AdminKeys, AdminKeyStore
from chat_broker.admin.operations.bans import BanOperations
from chat_broker.admin.operations.rooms import RoomOperations
from chat_broker.admin.operations.tokens import TokenOperations
from chat_broker.admin.operations.users import UserOperations
from chat_broker.admission.rate_limits import Limiter
from chat_broker.chat.bans import BanBook, BanRecord, BanStatuses, MintGuard
from chat_broker.chat.ports import Hints, RoomChanges
from chat_broker.settings import Settings
from chat_broker_kit.tasks import cancel_and_wait
from chat_broker_sdk import AsyncChatClient

TOPIC = "standing"
"""The topic of the hints that replicas send each other about bans and revocations."""


@dataclass(frozen=True, slots=True)
class AdminStorage:
    """The storage of the admin services, and the hints of other replicas.

    *alone*: no other process uses the same storage.
    """

    keys: AdminKeyStore
    bans: BanBook
    chain: AuditChain
    pending: PendingRecords
    room_changes: RoomChanges
    hints: Hints
    alone: bool


@dataclass(frozen=True, slots=True)
class AdminServices:
    """What the admin routes, admission and the broker use."""

    access: AdminAccess
    users: UserOperations
    tokens: TokenOperations
    bans: BanOperations
    rooms: RoomOperations
    keys: AdminKeyStore
    chain: AuditChain
    trail: AuditTrail
    book: BanBook
    ban_statuses: BanStatuses
    guard: MintGuard


@asynccontextmanager
async def open_admin_services(
    settings: Settings, storage: AdminStorage, chat: AsyncChatClient, limiter: Limiter
) -> AsyncIterator[AdminServices]:
    """The admin services, with background tasks that end with the block."""
    book = storage.bans
    ban_statuses = BanStatuses(book, exact=storage.alone)

    def on_hint(external_id: str | None) -> None:
        # None follows a gap: hints may be lost, so all cached ban statuses are read again.
        if external_id is None:
            ban_statuses.forget(None)
        else:
            ban_statuses.note_revocation(external_id)

    async def send_hint(external_id: str | None) -> None:
        await storage.hints.tell(TOPIC, external_id)

    async def end_suspension(record: BanRecord) -> None:
        await bans.settle(record)

    guard = MintGuard(book, ban_statuses, end_suspension=end_suspension, tell=send_hint)
    bans = BanOperations(chat, book, ban_statuses, guard)
    trail = AuditTrail(storage.chain, storage.pending, alone=storage.alone)
    bootstrap = None if settings.admin_key is None else settings.admin_key.get_secret_value()
    storage.hints.on(TOPIC, on_hint)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(trail.stop)
        for name, work in (("audit", trail.run()), ("bans", bans.run())):
            stack.push_async_callback(cancel_and_wait, asyncio.create_task(work, name=name))
        yield AdminServices(
            access=AdminAccess(AdminKeys(storage.keys, bootstrap), trail, limiter),
            users=UserOperations(chat, bans, guard),
            tokens=TokenOperations(chat, guard, token_ttl=settings.token_ttl),
            bans=bans,
            rooms=RoomOperations(chat, storage.room_changes),
            keys=storage.keys,
            chain=storage.chain,
            trail=trail,
            book=book,
            ban_statuses=ban_statuses,
            guard=guard,
        )
