"""The rules for direct rooms: one for each set of users, who never change."""

from collections.abc import Sequence

from chat_broker.chat.features import Features
from chat_broker.chat.identities import Identities, naming
from chat_broker.chat.principal import Principal
from chat_broker.errors import BadInput, direct_room
from chat_broker_sdk import AsyncChatClient, Room

MOST_OTHERS = 7


class DirectRooms:
    """Finds or makes the room of a caller and others. Acts as the caller and no other user."""

    def __init__(self, chat: AsyncChatClient, identities: Identities, features: Features) -> None:
        self._chat = chat
        self._identities = identities
        self._features = features

    async def ensure(self, me: Principal, users: Sequence[str]) -> tuple[Room, bool]:
        """The one room of the caller and *users*, and whether it is new. Nobody else: the caller's room of notes.

        *users*: chat user ids or `external:<id>`. Raises NotFound `user_not_found`, which names the first missing.
        """
        user_id = await self._identities.active_id(me)
        await self._features.require("direct")
        others = await self._identities.resolve_all(users, "with")
        others.pop(user_id, None)
        if len(others) > MOST_OTHERS:
            raise BadInput.field("with", f"names at most {MOST_OTHERS} others")
        user_ids = [*others, user_id]
        with naming(others, "with"):
            made = await self._chat.with_raw_response(
                self._chat.rooms.ensure_direct, user_ids, created_by=user_id
            )
        return made.value, made.status == 201

    async def refuse(self, room_id: str) -> None:
        """Raise Conflict `direct_room` if this is one: asked when something about its members is refused anyway."""
        if (await self._chat.rooms.get(room_id)).kind == "direct":
            raise direct_room()
