"""Who wrote which message: asked before a message is edited or deleted with the project's key."""

from collections.abc import Mapping, Sequence

from chat_broker.errors import message_not_found
from chat_broker_kit.bounded_cache import BoundedCache
from chat_broker_sdk import AsyncChatClient, Message

PAGES_SEARCHED = 500
"""How many pages of 200 are looked through for the author of a message that this process has not seen."""


class Authors:
    """The author of each message this process has seen. That never changes, so entries do not go stale."""

    _MOST = 50_000
    _MOST_PAGES = 1_000

    def __init__(self, chat: AsyncChatClient) -> None:
        self._chat = chat
        # No BoundedCache: a page brings fifty at once, and each `put` costs five times what a dict takes.
        # The older half goes when it is full, and with it all pages, which promise that theirs are known.
        self._known: dict[tuple[str, str], str] = {}
        self._pages = BoundedCache[str, Mapping[str, str]](self._MOST_PAGES)
        """The page that each room was last seen with, all of it known."""

    def remember(self, room_id: str, messages: Sequence[Message]) -> None:
        """Messages that went by."""
        known = self._known
        for message in messages:
            if message.user_id is not None:
                known[(room_id, message.id)] = message.user_id
        if len(known) > self._MOST:
            self._forget()

    def remember_page(self, room_id: str, authors: Mapping[str, str]) -> None:
        """Authors by message id. The mapping is kept, so it must not change afterwards."""
        # Most requests ask for the page that another has just asked for.
        if self._pages.get(room_id) is authors:
            return
        known = self._known
        for message_id, author in authors.items():
            known[(room_id, message_id)] = author
        self._pages.put(room_id, authors)
        if len(known) > self._MOST:
            self._forget()

    def _forget(self) -> None:
        known = self._known
        self._pages.forget_all()
        for key in list(known)[: len(known) - self._MOST // 2]:
            del known[key]

    def known(self, room_id: str, message_id: str) -> str | None:
        """The author's chat user id, if the message has gone by."""
        return self._known.get((room_id, message_id))

    async def look_up(self, room_id: str, message_id: str) -> str:
        """The author's chat user id, looked for from the newest message back. Raises NotFound.

        Not every Chat API has a route for one message.
        """
        before: int | None = None
        for _ in range(PAGES_SEARCHED):
            page = await self._chat.messages.list(room_id, limit=200, before=before)
            self.remember(room_id, page.items)
            for message in page.items:
                if message.id == message_id and message.user_id is not None:
                    return message.user_id
            oldest = min((each.seq for each in page.items if each.seq is not None), default=1)
            if oldest <= 1 or (before is not None and oldest >= before):
                break
            before = oldest
        raise message_not_found()
