"""Operators and rooms: list and delete any room and message."""

from chat_broker.chat.ids import is_id
from chat_broker.chat.ports import RoomChanges
from chat_broker.chat.room_names import is_room_name
from chat_broker.errors import message_not_found, room_not_found
from chat_broker_sdk import AsyncChatClient, Message, Page, Room


class RoomOperations:
    """Raises NotFound for ids that no room or message can have. A room may be named `external:` and the app's own id."""

    def __init__(self, chat: AsyncChatClient, changes: RoomChanges) -> None:
        self._chat = chat
        self._changes = changes

    async def list(self, *, page: int | None, limit: int | None, q: str | None) -> Page[Room]:
        """One page of all rooms, private ones included."""
        return await self._chat.rooms.list(page=page, limit=limit, q=q)

    async def messages(
        self,
        room_id: str,
        *,
        page: int | None,
        limit: int | None,
        before: int | None,
        after: int | None,
    ) -> Page[Message]:
        """Messages of any room, by page or next to a `seq`."""
        _check_name(room_id)
        return await self._chat.messages.list(
            room_id, page=page, limit=limit, before=before, after=after
        )

    async def delete(self, room_id: str) -> None:
        """Delete any room, and drop it from the caches of all replicas."""
        _check_name(room_id)
        if is_room_name(room_id):
            room_id = (await self._chat.rooms.get(room_id)).id
        try:
            await self._chat.rooms.delete(room_id)
        finally:
            await self._changes.changed(room_id)

    async def delete_message(self, room_id: str, message_id: str) -> None:
        """Delete any message; its place in the room stays, empty."""
        _check_name(room_id)
        if not is_id(message_id):
            raise message_not_found()
        await self._chat.messages.delete(room_id, message_id)


def _check_name(room: str) -> None:
    if not is_id(room) and not is_room_name(room):
        raise room_not_found()
