"""client.rooms: rooms, memberships and read marks."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal, overload

from chat_broker_sdk._fields import UNSET, UnsetType, without_none, without_unset
from chat_broker_sdk._models import CursorPage, Member, Page, Room
from chat_broker_sdk._pages import PageWalk

from .room_state import AsyncRoomState


class AsyncRooms(AsyncRoomState):
    """The project's rooms and their members.

    With the API key, for any user; with a token alone, for its user: `user_id` may then be left out.
    """

    async def create(
        self,
        *,
        name: str,
        created_by: str,
        description: str | None = None,
        private: bool | None = None,
        member_ids: Sequence[str] | None = None,
        metadata: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Room:
        """Create a room. The user *created_by* becomes its owner and first member."""
        body = without_none(
            name=name,
            created_by=created_by,
            description=description,
            private=private,
            member_ids=None if member_ids is None else [*member_ids],
            metadata=metadata,
        )
        return await self._api.request(
            "POST",
            (self._routes.rooms,),
            Room,
            body=body,
            creates=True,
            idempotency_key=idempotency_key,
        )

    async def get(self, room_id: str) -> Room:
        """Fetch one room. Raises NotFoundError if it does not exist or this user may not see it."""
        return await self._api.request("GET", self._path(room_id), Room, auth="either")

    @overload
    async def list(
        self,
        *,
        page: int | None = ...,
        limit: int | None = ...,
        member_id: str | None = ...,
        private: bool | None = ...,
        q: str | None = ...,
        kind: str | None = ...,
        archived: bool | None = ...,
    ) -> Page[Room]: ...

    @overload
    async def list(
        self,
        *,
        sort: Literal["activity"],
        cursor: str | None = ...,
        limit: int | None = ...,
        member_id: str | None = ...,
        private: bool | None = ...,
        q: str | None = ...,
        kind: str | None = ...,
        archived: bool | None = ...,
    ) -> CursorPage[Room]: ...

    async def list(
        self,
        *,
        page: int | None = None,
        limit: int | None = None,
        member_id: str | None = None,
        private: bool | None = None,
        q: str | None = None,
        sort: Literal["activity"] | None = None,
        kind: str | None = None,
        archived: bool | None = None,
        cursor: str | None = None,
    ) -> Page[Room] | CursorPage[Room]:
        """One page of rooms, filtered. With *member_id*, or with a token, rooms have `unread`, and `mine` if offered.

        *sort* `activity`: those with the newest message first; the next page is had with *cursor*. *archived*: by the
        member's own choice. *sort*, *kind*, *archived* and *cursor* need the feature `mine`.
        """
        query = {"page": page, "limit": limit, "member_id": member_id, "private": private, "q": q}
        more = {"sort": sort, "kind": kind, "archived": archived, "cursor": cursor}
        if any(value is not None for value in more.values()):
            await self._api.require("mine")
        into: Any = Page[Room] if sort is None else CursorPage[Room]
        rooms: Page[Room] | CursorPage[Room] = await self._api.request(
            "GET", (self._routes.rooms,), into, auth="either", query={**query, **more}
        )
        return rooms

    async def iterate(
        self,
        *,
        limit: int = 200,
        member_id: str | None = None,
        private: bool | None = None,
        q: str | None = None,
    ) -> AsyncIterator[Room]:
        """Each room once, in pages of *limit* (20 to 200). None is skipped when rooms are created or deleted meanwhile."""
        walk = PageWalk[Room](limit, lambda room: room.id)
        while not walk.done:
            page = await self.list(
                page=walk.number, limit=walk.size, member_id=member_id, private=private, q=q
            )
            for room in walk.fresh(page):
                yield room

    async def update(
        self,
        room_id: str,
        *,
        name: str | UnsetType = UNSET,
        description: str | UnsetType | None = UNSET,
        private: bool | UnsetType = UNSET,
        metadata: dict[str, Any] | UnsetType | None = UNSET,
        **more: Any,
    ) -> Room:
        """Change the fields that are passed; None clears one. *more*: fields of a newer server.

        Raises UnsupportedOperationError where not offered.
        """
        body = without_unset(
            more, name=name, description=description, private=private, metadata=metadata
        )
        return await self._api.request("PATCH", self._path(room_id), Room, body=body)

    async def delete(self, room_id: str) -> None:
        """Delete a room. Raises UnsupportedOperationError where not offered."""
        await self._api.request("DELETE", self._path(room_id))

    async def join(self, room_id: str, *, user_id: str | None = None) -> Member:
        """Make the user a member. Does nothing for a member."""
        return await self._api.request(
            "POST",
            self._path(room_id, self._routes.join),
            Member,
            auth="either",
            body=without_none(user_id=user_id),
        )

    async def leave(self, room_id: str, *, user_id: str | None = None) -> None:
        """End the user's membership. Does nothing for a user who is not a member."""
        await self._api.request(
            "POST",
            self._path(room_id, self._routes.leave),
            auth="either",
            body=without_none(user_id=user_id),
        )

    async def members(
        self, room_id: str, *, page: int | None = None, limit: int | None = None
    ) -> Page[Member]:
        """One page of the room's members. Pages count from 1."""
        return await self._api.request(
            "GET",
            self._path(room_id, self._routes.members),
            Page[Member],
            auth="either",
            query={"page": page, "limit": limit},
        )

    async def iterate_members(self, room_id: str, *, limit: int = 200) -> AsyncIterator[Member]:
        """Each member once, in pages of *limit* (20 to 200). None is skipped when members join or leave meanwhile."""
        walk = PageWalk[Member](limit, lambda member: member.user_id)
        while not walk.done:
            page = await self.members(room_id, page=walk.number, limit=walk.size)
            for member in walk.fresh(page):
                yield member

    async def member(self, room_id: str, user_id: str) -> Member:
        """One user's membership. Raises NotFoundError if the user is not in the room."""
        return await self._api.request(
            "GET", self._member_path(room_id, user_id), Member, auth="either"
        )

    async def put_member(self, room_id: str, user_id: str, *, role: str | None = None) -> Member:
        """Add a member, or change a member's role (`owner`, `member`)."""
        return await self._api.request(
            "PUT", self._member_path(room_id, user_id), Member, body=without_none(role=role)
        )

    async def remove_member(self, room_id: str, user_id: str) -> None:
        """End a user's membership. Raises NotFoundError if the user is not in the room."""
        await self._api.request("DELETE", self._member_path(room_id, user_id))
