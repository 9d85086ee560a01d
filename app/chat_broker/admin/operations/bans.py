"""AdminServices and bans: ban, unban, and keep the Chat API's suspensions in step."""

import asyncio
import contextlib
import time
from dataclasses import replace

import structlog

import chat_broker_sdk
from chat_broker.admin.audit_log import new_id
from chat_broker.admin.operations.revocation import (
    RevocationResult,
    revocation_result,
    suspension_result,
)
from chat_broker.chat.bans import BanBook, BanRecord, BanStatuses, MintGuard
from chat_broker.chat.ports import StateUnavailable
from chat_broker.errors import BrokerError, from_chat
from chat_broker_kit.text.timestamps import format_timestamp
from chat_broker_sdk import AsyncChatClient, ChatUser

log = structlog.get_logger(__name__)

SETTLE_SECONDS = 1.0
"""Seconds between two rounds of `run`."""
GRACE_SECONDS = 15.0
"""The age at which `run` takes a new ban over from the request that made it."""


def identity_of(user: ChatUser) -> str:
    """The key of bans and marks: it outlives the chat user, who may be deleted and created again."""
    return user.external_user_id or f"chat:{user.id}"


class BanOperations:
    """Bans users in the broker's database first, then in the Chat API by suspending them.

    If the Chat API fails, the ban still holds: the broker mints no token, and `run` repeats the call.
    """

    def __init__(
        self,
        chat: AsyncChatClient,
        book: BanBook,
        ban_statuses: BanStatuses,
        guard: MintGuard,
    ) -> None:
        self._chat = chat
        self._book = book
        self._ban_statuses = ban_statuses
        self._guard = guard

    async def active(self, user: ChatUser) -> BanRecord | None:
        """The ban in force; None if there is none."""
        status = await self._ban_statuses.ban_status(identity_of(user), fresh=True)
        return status.ban if self._ban_statuses.holds(status) else None

    async def history(self, user: ChatUser) -> list[BanRecord]:
        """All bans of the user, ended ones included, latest first."""
        return await self._book.history(identity_of(user))

    async def ban(
        self, user: ChatUser, *, reason: str, until: str | None, by: str
    ) -> tuple[BanRecord, RevocationResult]:
        """Ban the user until *until*, or for good if it is None, in place of an earlier ban.

        Raises the error of the Chat API if it cannot suspend the user; the ban holds all the same.
        """
        identity = identity_of(user)
        record = BanRecord(
            id=new_id(),
            user_id=user.id,
            external_user_id=identity,
            reason=reason,
            by=by,
            created_at=format_timestamp(),
            until=until,
            # A user whom an operator suspended stays suspended when the ban ends.
            suspended=user.status != "suspended",
            pending="suspend",
        )
        await self._book.ban(record)
        await self._guard.announce_revocation(identity)
        status = await self._book.ban_status(identity)
        try:
            result = await self.settle(status.ban or record)
        except chat_broker_sdk.ChatError as error:
            raise _ban_holds(from_chat(error)) from None
        return record, result

    async def unban(self, user: ChatUser, *, by: str) -> BanRecord | None:
        """Lift the ban; None if there is none."""
        identity = identity_of(user)
        lifted = await self._book.lift(identity, by=by, at=format_timestamp())
        await self._guard.announce_revocation(identity)
        if lifted is not None:
            await self.settle(lifted)
        return lifted

    async def settle(self, record: BanRecord) -> RevocationResult:
        """Suspend or activate the chat user as the ban requires, until Chat API and database agree.

        Activates only users whom the broker suspended: an operator's suspension outlasts the ban.
        """
        result = RevocationResult()
        for _ in range(5):
            ours = record.suspended
            if record.holds(format_timestamp()):
                suspended, result = await self._suspend(record)
                ours = ours or suspended
            else:
                suspended = False
                if ours:
                    await self._activate(record)
            if await self._book.settle(record, suspended=suspended):
                break
            # The ban was changed meanwhile, and the other request may have called the Chat API before
            # this one did. This one's call came last, so it must be right.
            present = (await self._book.ban_status(record.external_user_id)).ban
            if present is None:
                if ours:
                    await self._activate(record)
                present = (await self._book.ban_status(record.external_user_id)).ban
                if present is None:
                    break
            record = replace(present, suspended=present.suspended or suspended)
        self._ban_statuses.forget(record.external_user_id)
        return result

    async def _suspend(self, record: BanRecord) -> tuple[bool, RevocationResult]:
        """Suspend the user, or else revoke the tokens. True if the suspension is the broker's."""
        suspended, ours = False, record.suspended
        if not ours:
            # The user was suspended when the ban was made: by an operator, or for an earlier ban that
            # has been lifted since, and its suspension with it.
            try:
                ours = (await self._chat.users.get(record.user_id)).status != "suspended"
            except chat_broker_sdk.NotFoundError:
                return False, RevocationResult()
        if ours:
            try:
                user = await self._chat.users.update(record.user_id, status="suspended")
                suspended = True
            except chat_broker_sdk.NotFoundError:
                return False, RevocationResult()
            except (chat_broker_sdk.UnsupportedOperationError, chat_broker_sdk.ValidationError):
                pass  # this Chat API has no suspension: only the broker refuses the user
            else:
                if (result := suspension_result(user)) is not None:
                    return True, result
        try:
            receipt = await self._chat.users.revoke_token(record.user_id)
        except chat_broker_sdk.NotFoundError:
            return suspended, RevocationResult()
        return suspended, revocation_result(receipt)

    async def _activate(self, record: BanRecord) -> None:
        with contextlib.suppress(
            chat_broker_sdk.NotFoundError,
            chat_broker_sdk.UnsupportedOperationError,
            chat_broker_sdk.ValidationError,
        ):
            await self._chat.users.update(record.user_id, status="active")

    async def run(self) -> None:
        """Until cancelled: end bans whose time is over, and repeat failed calls to the Chat API."""
        while True:
            await asyncio.sleep(SETTLE_SECONDS)
            try:
                await self.settle_all()
            except StateUnavailable:
                continue
            except Exception:  # a bug must not leave users banned for ever
                log.exception("bans.not_settled")

    async def settle_all(self, *, grace: float = GRACE_SECONDS) -> int:
        """Settle every unsettled ban; the number of bans settled.

        Leaves out a ban younger than *grace* seconds: the request that made it is settling it, and
        needs the result.
        """
        settled = 0
        newest = format_timestamp(time.time() - grace)
        now = format_timestamp()
        for record in await self._book.unsettled(now):
            # A ban from the future was made before the clock was set back.
            if record.pending == "suspend" and newest < record.created_at <= now:
                continue
            try:
                await self.settle(record)
                settled += 1
            except chat_broker_sdk.ChatError as error:
                log.warning("ban.not_told", ban=record.id, error=error.code)
        return settled


def _ban_holds(error: BrokerError) -> BrokerError:
    error.message += " The ban holds; the Chat API will be told as soon as it answers."
    return error
