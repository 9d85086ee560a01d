"""The rules for who has read a message, and who is online."""

from collections.abc import Sequence

from chat_broker.chat.features import Features
from chat_broker.chat.identities import Identities
from chat_broker.chat.ids import is_id
from chat_broker.chat.own_rooms import May
from chat_broker.chat.policy import Action
from chat_broker.chat.principal import Principal
from chat_broker.errors import message_not_found
from chat_broker_sdk import AsyncChatClient, MessageReceipts, Presence


class WhoIsThere:
    """What callers may know of others: whether they are online, and what they have read. Both as the caller sees it."""

    def __init__(
        self, chat: AsyncChatClient, identities: Identities, features: Features, may: May
    ) -> None:
        self._chat = chat
        self._identities = identities
        self._features = features
        self._may = may

    async def receipts(self, me: Principal, room_id: str, message_id: str) -> MessageReceipts:
        """Who has read a message in a room of the caller's. Raises Refused `receipts_off`."""
        user_id = await self._may(me, Action.READ, room_id)
        await self._features.require("receipts")
        if not is_id(message_id):
            raise message_not_found()
        return await self._chat.messages.receipts(room_id, message_id, member_id=user_id)

    async def presence(self, me: Principal, names: Sequence[str]) -> tuple[Presence, ...]:
        """Whether users of a common room are online. Others, and names of nobody, are left out."""
        user_id = await self._identities.active_id(me)
        await self._features.require("presence")
        found = await self._identities.known_among(names)
        return await self._chat.users.presence(found, member_id=user_id)
