"""Part of client.users: what users set about themselves, whom they block, and how they find each other."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

from chat_broker_sdk._fields import UNSET, UnsetType, without_unset
from chat_broker_sdk._models import (
    CursorPage,
    Message,
    Page,
    Presence,
    Presences,
    PublicUser,
    PublicUsers,
    UserSettings,
)
from chat_broker_sdk._pages import PageWalk
from chat_broker_sdk._urls import checked_id

from .api import AsyncApi


class AsyncPeople:
    """Calls about what one user says of others and of themself."""

    def __init__(self, api: AsyncApi) -> None:
        self._api = api
        self._routes = api.dialect.routes

    def _path(self, user_id: str, *more: str) -> tuple[str, ...]:
        return self._routes.users, checked_id(user_id, "user_id"), *more

    # -- settings -------------------------------------------------------------------------------

    async def settings(self, user_id: str) -> UserSettings:
        """What the user has set: whether they are seen, and what they are notified of. Feature `blocks`."""
        await self._api.require("blocks")
        return await self._api.request(
            "GET", self._path(user_id, self._routes.settings), UserSettings
        )

    async def update_settings(
        self,
        user_id: str,
        *,
        presence: Literal["visible", "hidden"] | UnsetType = UNSET,
        receipts: bool | UnsetType = UNSET,
        notify: Literal["all", "mentions", "none"] | UnsetType | None = UNSET,
        push_preview: bool | UnsetType = UNSET,
        **more: object,
    ) -> UserSettings:
        """Change the settings that are passed, and return all. *more*: settings of a newer server. Feature `blocks`.

        *presence*: `hidden` users are not seen online. *receipts*: whether others see what the user has read. *notify*:
        of what, where a room says nothing else; None clears it. *push_preview*: whether notifications hold the text.
        """
        await self._api.require("blocks")
        body = without_unset(
            more, presence=presence, receipts=receipts, notify=notify, push_preview=push_preview
        )
        return await self._api.request(
            "PATCH", self._path(user_id, self._routes.settings), UserSettings, body=body
        )

    # -- presence and signals -------------------------------------------------------------------

    async def presence(
        self, user_ids: Sequence[str], *, member_id: str | None = None
    ) -> tuple[Presence, ...]:
        """Whether users are online, at most 100; unknown ones are left out. Feature `presence`.

        *member_id*: as this user may see it, who sees those of a common room.
        """
        await self._api.require("presence")
        if not user_ids:
            return ()
        ids = ",".join(checked_id(each, "user_ids") for each in user_ids)
        query = {"ids": ids, "member_id": member_id}
        found = await self._api.request("GET", (self._routes.presence,), Presences, query=query)
        return found.items

    async def signal(self, user_id: str, name: str, data: Any = None) -> None:
        """Tell all sockets of the user something that is stored nowhere. Feature `signals`.

        *name*: 1 to 32 of `a-z0-9._-`; *data*: any JSON of at most 1 KiB.
        """
        await self._api.require("signals")
        body = {"name": name, "data": data}
        await self._api.request("POST", self._path(user_id, self._routes.signals), body=body)

    # -- mentions -------------------------------------------------------------------------------

    async def mentions(
        self, user_id: str, *, cursor: str | None = None, limit: int | None = None
    ) -> CursorPage[Message]:
        """One page of the messages of others that name the user, or everybody with them, newest first.

        They are of all rooms that the user is in. The next page is had with *cursor*. Feature `mentions`.
        """
        await self._api.require("mentions")
        return await self._api.request(
            "GET",
            self._path(user_id, self._routes.mentions),
            CursorPage[Message],
            query={"cursor": cursor, "limit": limit},
        )

    async def iterate_mentions(self, user_id: str, *, limit: int = 50) -> AsyncIterator[Message]:
        """Each message of others that names the user once, newest first. Feature `mentions`."""
        cursor: str | None = None
        while True:
            page = await self.mentions(user_id, cursor=cursor, limit=limit)
            for message in page.items:
                yield message
            cursor = page.next_cursor
            if cursor is None:
                return

    # -- blocks ---------------------------------------------------------------------------------

    async def block(self, user_id: str, other_id: str) -> None:
        """Block a user for *user_id*, who then hears less of them: no unread messages, no mentions, no direct rooms.

        The other one is not told. Blocking again changes nothing. Raises ConflictError `too_many_blocks` beyond 1,000,
        and ValidationError for one and the same user. Feature `blocks`.
        """
        await self._api.require("blocks")
        await self._api.request("PUT", self._block(user_id, other_id))

    async def unblock(self, user_id: str, other_id: str) -> None:
        """End a block, if there is one. Feature `blocks`."""
        await self._api.require("blocks")
        await self._api.request("DELETE", self._block(user_id, other_id))

    def _block(self, user_id: str, other_id: str) -> tuple[str, ...]:
        return self._path(user_id, self._routes.blocks, checked_id(other_id, "other_id"))

    async def blocks(
        self, user_id: str, *, page: int | None = None, limit: int | None = None
    ) -> Page[PublicUser]:
        """One page of the users whom the user blocks. Pages count from 1. Feature `blocks`."""
        await self._api.require("blocks")
        query = {"page": page, "limit": limit}
        path = self._path(user_id, self._routes.blocks)
        return await self._api.request("GET", path, Page[PublicUser], query=query)

    async def iterate_blocks(self, user_id: str, *, limit: int = 200) -> AsyncIterator[PublicUser]:
        """Each user whom the user blocks once, in pages of *limit* (20 to 200). Feature `blocks`."""
        walk = PageWalk[PublicUser](limit, lambda user: user.id)
        while not walk.done:
            page = await self.blocks(user_id, page=walk.number, limit=walk.size)
            for user in walk.fresh(page):
                yield user

    # -- directory ------------------------------------------------------------------------------

    async def directory(
        self, user_id: str, q: str, *, limit: int | None = None
    ) -> tuple[PublicUser, ...]:
        """Users whose username or display name begins with *q* (1 to 128 characters), as the user may see them.

        At most *limit* (1 to 20), in any case, with or without accents; not those who block the user. Feature `directory`.
        """
        await self._api.require("directory")
        query = {"q": q, "limit": limit}
        path = self._path(user_id, self._routes.directory)
        found = await self._api.request("GET", path, PublicUsers, query=query)
        return found.items
