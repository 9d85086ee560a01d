"""The rules for what callers say of themselves and of other users: settings, blocks, the directory."""

from collections.abc import Mapping
from typing import Any

from chat_broker.chat.features import Features
from chat_broker.chat.identities import Identities
from chat_broker.chat.principal import Principal
from chat_broker.errors import BadInput
from chat_broker_sdk import AsyncChatClient, Page, PublicUser, UserSettings


class People:
    """What a caller may set, whom they block, and whom they find. Acts as the caller and no other user."""

    def __init__(self, chat: AsyncChatClient, identities: Identities, features: Features) -> None:
        self._chat = chat
        self._identities = identities
        self._features = features

    async def settings(self, me: Principal) -> UserSettings:
        """What the caller has set about themself. They may see and change it also where blocks are switched off."""
        user_id = await self._identities.active_id(me)
        return await self._chat.users.settings(user_id)

    async def update_settings(self, me: Principal, changes: Mapping[str, Any]) -> UserSettings:
        """Change the caller's settings."""
        user_id = await self._identities.active_id(me)
        return await self._chat.users.update_settings(user_id, **changes)

    async def blocks(
        self, me: Principal, *, page: int | None, limit: int | None
    ) -> Page[PublicUser]:
        """Whom the caller blocks."""
        user_id = await self._identities.active_id(me)
        await self._features.require("blocks")
        return await self._chat.users.blocks(user_id, page=page, limit=limit)

    async def block(self, me: Principal, who: str) -> None:
        """Block a user for the caller. *who*: a chat user id or `external:<id>`."""
        user_id, other = await self._both(me, who)
        if other == user_id:
            raise BadInput.field("user", "is the caller: name another user")
        await self._chat.users.block(user_id, other)

    async def unblock(self, me: Principal, who: str) -> None:
        """End a block of the caller's, if there is one."""
        user_id, other = await self._both(me, who)
        await self._chat.users.unblock(user_id, other)

    async def _both(self, me: Principal, who: str) -> tuple[str, str]:
        """The caller's chat user id, and that of the user whom they name."""
        user_id = await self._identities.active_id(me)
        await self._features.require("blocks")
        return user_id, await self._identities.resolve(who)

    async def find(self, me: Principal, q: str, limit: int | None) -> tuple[PublicUser, ...]:
        """Users whose username or display name begins with *q*. Raises Refused `directory_off`."""
        user_id = await self._identities.active_id(me)
        await self._features.require("directory")
        return await self._chat.users.directory(user_id, q, limit=limit)
