"""The rules for reactions to messages and for pinned messages."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

import chat_broker_sdk
from chat_broker.chat import views
from chat_broker.chat.features import Features
from chat_broker.chat.ids import is_id
from chat_broker.chat.message_cache import SaidPage, is_crowded
from chat_broker.chat.own_rooms import May
from chat_broker.chat.policy import Action
from chat_broker.chat.principal import Principal
from chat_broker.errors import BadInput, message_not_found
from chat_broker_sdk import AsyncChatClient, CursorPage, Message, Page, Reaction, Reactor

MOST_IDS = 50
"""Messages that the Chat API answers by their ids at once."""

Own = dict[str, tuple[str, ...]]
"""A user's reactions, by message id."""


@dataclass(frozen=True, slots=True)
class ReactionsQuery:
    """Whose reactions to list: with one emoji or any, next to a cursor."""

    emoji: str | None = None
    cursor: str | None = None
    limit: int | None = None


class Reactions:
    """What callers put to messages without writing one.

    Membership comes first. What the caller may do by their role the Chat API judges, which is told in whose name it is done.
    """

    def __init__(self, chat: AsyncChatClient, features: Features, may: May) -> None:
        self._chat = chat
        self._features = features
        self._may = may

    async def add(
        self, me: Principal, room_id: str, message_id: str, emoji: str
    ) -> tuple[Reaction, ...]:
        """React to a message as the caller. Returns all reactions to it."""
        user_id = await self._allowed(me, room_id, message_id, "reactions")
        try:
            return await self._chat.messages.react(room_id, message_id, emoji, user_id=user_id)
        except chat_broker_sdk.ValidationError:
            raise _no_emoji() from None

    async def remove(
        self, me: Principal, room_id: str, message_id: str, emoji: str
    ) -> tuple[Reaction, ...]:
        """Take a reaction of the caller's back, if there is one. Returns what is left."""
        user_id = await self._allowed(me, room_id, message_id, "reactions")
        try:
            return await self._chat.messages.unreact(room_id, message_id, emoji, user_id=user_id)
        except chat_broker_sdk.ValidationError:
            raise _no_emoji() from None

    async def who(
        self, me: Principal, room_id: str, message_id: str, query: ReactionsQuery
    ) -> CursorPage[Reactor]:
        """Who reacted to a message that the caller sees."""
        user_id = await self._allowed(me, room_id, message_id, "reactions")
        return await self._chat.messages.reactions(
            room_id,
            message_id,
            emoji=query.emoji,
            cursor=query.cursor,
            limit=query.limit,
            member_id=user_id,
        )

    async def own(self, user_id: str, room_id: str, message_ids: Sequence[str]) -> Own:
        """The user's reactions to those of these messages that do not show all users of a reaction."""
        found: Own = {}
        for at in range(0, len(message_ids), MOST_IDS):
            ids = message_ids[at : at + MOST_IDS]
            page = await self._chat.messages.list(room_id, ids=ids, viewer_id=user_id)
            found |= page.mine
        return found

    async def own_to(self, me: Principal, room_id: str, message: Message) -> Own:
        """`own`, of the caller and one message."""
        if not is_crowded(message):
            return {}
        user_id = await self._may(me, Action.READ, room_id)
        return await self.own(user_id, room_id, (message.id,))

    async def for_reader(self, user_id: str, room_id: str, said: SaidPage) -> SaidPage:
        """*said*, which is the same for everybody, with the user's own reactions where it does not show them."""
        own = await self.own(user_id, room_id, said.crowded)
        if not own:
            return said
        view = said.view[:-1] + b',"mine":' + views.encode(own) + b"}"
        return msgspec.structs.replace(said, view=view)

    async def pin(self, me: Principal, room_id: str, message_id: str) -> Message:
        """Pin a message as the caller."""
        user_id = await self._allowed(me, room_id, message_id, "pins")
        return await self._chat.messages.pin(room_id, message_id, user_id=user_id)

    async def unpin(self, me: Principal, room_id: str, message_id: str) -> Message:
        """End the pin of a message, if there is one."""
        user_id = await self._allowed(me, room_id, message_id, "pins")
        return await self._chat.messages.unpin(room_id, message_id, user_id=user_id)

    async def pins(self, me: Principal, room_id: str) -> Page[Message]:
        """The pinned messages that the caller sees, newest pin first."""
        user_id = await self._may(me, Action.READ, room_id)
        await self._features.require("pins")
        return await self._chat.rooms.pins(room_id, member_id=user_id)

    async def _allowed(self, me: Principal, room_id: str, message_id: str, feature: str) -> str:
        """The caller's chat user id."""
        user_id = await self._may(me, Action.READ, room_id)
        await self._features.require(feature)
        if not is_id(message_id):
            raise message_not_found()
        return user_id


def _no_emoji() -> BadInput:
    return BadInput.field("emoji", "must be one emoji or :name:, of at most 64 bytes")
