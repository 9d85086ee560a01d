"""Operators and chat tokens: mint for a user, revoke of a user or of all."""

import asyncio
import contextlib

import chat_broker_sdk
from chat_broker.admin.operations.bans import identity_of
from chat_broker.admin.operations.revocation import RevocationResult, revocation_result
from chat_broker.chat.bans import MintGuard
from chat_broker.errors import user_not_found
from chat_broker_sdk import AsyncChatClient, ChatUser, Token

CONCURRENT_REVOCATIONS = 8
"""Requests at once, where the Chat API revokes only user by user."""


class TokenOperations:
    """Mints and revokes chat tokens.

    A revocation first raises the mark in the broker's database, then calls the Chat API: no token
    that is being minted meanwhile is handed out.
    """

    def __init__(self, chat: AsyncChatClient, guard: MintGuard, *, token_ttl: int) -> None:
        self._chat = chat
        self._guard = guard
        self._token_ttl = token_ttl

    async def mint(self, user: ChatUser, *, expires_in: int | None) -> Token:
        """A chat token for the user, with the checks of the user's own requests. *expires_in* is in seconds."""
        lifetime = self._token_ttl if expires_in is None else min(expires_in, self._token_ttl)

        async def generate() -> Token:
            return await self._chat.users.generate_token(user.id, expires_in=lifetime)

        return await self._guard.mint(identity_of(user), generate)

    async def revoke(self, user: ChatUser, *, session_id: str | None = None) -> RevocationResult:
        """Revoke all tokens of the user, or those of one session."""
        if session_id is None:
            await self._guard.revoke(identity_of(user))
        try:
            receipt = await self._chat.users.revoke_token(user.id, session_id=session_id)
        except chat_broker_sdk.NotFoundError:
            raise user_not_found() from None
        return revocation_result(receipt)

    async def revoke_all(self) -> tuple[RevocationResult, int | None]:
        """Revoke every token of the project, for a signing key that has leaked.

        Where the Chat API cannot do that in one request, it is done user by user: then the result has
        the sum of the closed sockets, and the number of users; else that number is None.
        """
        await self._guard.revoke(None)
        try:
            return revocation_result(await self._chat.users.revoke_all()), None
        except (chat_broker_sdk.UnsupportedOperationError, chat_broker_sdk.NotFoundError):
            pass
        return await self._revoke_each()

    async def _revoke_each(self) -> tuple[RevocationResult, int]:
        slots = asyncio.Semaphore(CONCURRENT_REVOCATIONS)
        results: list[RevocationResult] = []

        async def revoke(user_id: str) -> None:
            async with slots:
                with contextlib.suppress(chat_broker_sdk.NotFoundError):  # deleted in the meantime
                    receipt = await self._chat.users.revoke_token(user_id)
                    results.append(revocation_result(receipt))

        batch: list[str] = []
        async for user in self._chat.users.iterate():
            batch.append(user.id)
            if len(batch) >= CONCURRENT_REVOCATIONS * 8:
                await asyncio.gather(*map(revoke, batch))
                batch.clear()
        await asyncio.gather(*map(revoke, batch))
        closed = [each.sockets_closed for each in results if each.sockets_closed is not None]
        return RevocationResult(sockets_closed=sum(closed) if closed else None), len(results)
