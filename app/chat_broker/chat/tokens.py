"""Chat tokens of app users: minted, checked, made worthless."""

import time
from collections.abc import Awaitable, Callable

import chat_broker_sdk
from chat_broker.chat.bans import MintGuard
from chat_broker.chat.identities import Identities
from chat_broker.chat.principal import Principal
from chat_broker.errors import NotSignedIn, no_chat_token, user_deleted
from chat_broker.upstream.tokens import ChatToken
from chat_broker_sdk import AsyncChatClient, AuthInfo

Generate = Callable[[str, int], Awaitable[ChatToken]]
"""Makes a chat token for a chat user, good for so many seconds. Raises ChatErrors of the SDK."""

OWN_TOKEN_SECONDS = 60
"""Life of a token that never leaves the broker: for one call in a member's own name."""

_DEAD_TOKENS = {
    "token_expired": "The chat token has expired.",
    "token_revoked": "The chat token was revoked.",
    "user_suspended": "This account may not chat at the moment.",
    "user_deleted": "The chat account of this user was deleted.",
}


class ChatTokens:
    """The rules for chat tokens. One per process; safe for many requests at once."""

    def __init__(
        self,
        chat: AsyncChatClient,
        identities: Identities,
        *,
        generate: Generate,
        longest_life: int,
        guard: MintGuard | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """*longest_life*: seconds that the operator allows. *guard*: what bans and revocations go through, if there are any."""
        self._chat = chat
        self._identities = identities
        self._generate = generate
        self._longest_life = longest_life
        self._guard = guard
        self._now = now

    async def mint(self, me: Principal, *, expires_in: int | None = None) -> ChatToken:
        """A chat token for the caller, new each time; creates their chat user on first sight.

        Lives at most as long as the operator allows, the caller asks for (*expires_in*), and the app's
        own credential does.
        """
        life = self._longest_life if expires_in is None else min(expires_in, self._longest_life)
        if me.expires_at is not None:
            life = min(life, me.expires_at - int(self._now()))
        if life < 1:
            raise NotSignedIn("invalid_credentials", "The credential of the app has expired.")
        if self._guard is None:
            return await self._mint(me, life)
        return await self._guard.mint(me.external_id, lambda: self._mint(me, life))

    async def _mint(self, me: Principal, life: int) -> ChatToken:
        user_id = await self._identities.up_to_date_id(me)
        try:
            return await self._generate(user_id, life)
        except chat_broker_sdk.NotFoundError:
            user_id = await self._identities.find_again(me, instead_of=user_id)
        try:
            return await self._generate(user_id, life)
        except chat_broker_sdk.NotFoundError:
            raise user_deleted() from None

    async def client_of(self, user_id: str) -> AsyncChatClient:
        """A client that calls the Chat API as that user, for a minute."""
        return self._chat.as_user((await self._generate(user_id, OWN_TOKEN_SECONDS)).token)

    async def revoke(self, me: Principal) -> None:
        """Make all chat tokens of the caller worthless and close their sockets."""
        if self._guard is not None:
            await self._guard.revoke(me.external_id)
        user_id = await self._identities.known_id(me)
        if user_id is None:
            return
        try:
            await self._chat.users.revoke_token(user_id)
        except chat_broker_sdk.NotFoundError:
            return

    async def verify(self, token: str) -> AuthInfo:
        """What the Chat API says of a chat token. Raises NotSignedIn with the Chat API's code."""
        try:
            return await self._chat.auth.verify(token)
        except chat_broker_sdk.ConfigurationError:
            pass  # nothing that could be a token, or be sent as one
        except chat_broker_sdk.AuthenticationError as error:
            if error.code in _DEAD_TOKENS:
                raise NotSignedIn(error.code, _DEAD_TOKENS[error.code]) from None
        raise no_chat_token()
