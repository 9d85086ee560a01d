"""Part of client.rooms: what changed in a room, and a member's own side of it."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, Literal

from chat_broker_sdk._errors import ConflictError, ValidationError
from chat_broker_sdk._fields import UNSET, UnsetType, without_none, without_unset
from chat_broker_sdk._models import Change, Changes, DeliveredMark, Mine, ReadMark, Totals, TotalsOf
from chat_broker_sdk._urls import checked_id, checked_room

from .api import AsyncApi


class AsyncRoomState:
    """Calls that keep a client's copy of its rooms up to date."""

    def __init__(self, api: AsyncApi) -> None:
        self._api = api
        self._routes = api.dialect.routes

    def _path(self, room_id: str, *more: str) -> tuple[str, ...]:
        return self._routes.rooms, checked_room(room_id), *more

    def _member_path(self, room_id: str, user_id: str) -> tuple[str, ...]:
        return self._path(room_id, self._routes.members, checked_id(user_id, "user_id"))

    # -- changes --------------------------------------------------------------------------------

    async def changes(
        self,
        room_id: str,
        *,
        since_rev: int,
        from_seq: int | None = None,
        limit: int | None = None,
        member_id: str | None = None,
    ) -> Changes:
        """What changed after *since_rev* (0: from the beginning), new messages apart: each object once, as it is now.

        Messages below *from_seq* are left out. *member_id*: what this member may see. Feature `changes`.
        """
        await self._api.require("changes")
        query = {
            "since_rev": since_rev,
            "from_seq": from_seq,
            "limit": limit,
            "member_id": member_id,
        }
        return await self._api.request(
            "GET", self._path(room_id, self._routes.changes), Changes, auth="either", query=query
        )

    async def iterate_changes(
        self,
        room_id: str,
        *,
        since_rev: int,
        from_seq: int | None = None,
        limit: int = 200,
        member_id: str | None = None,
    ) -> AsyncIterator[Change]:
        """Each object that changed after *since_rev*, in order of `rev`. Objects that change meanwhile may come again.

        Raises ConflictError (`reset`) if the server no longer keeps these changes: read the room anew.
        """
        while True:
            page = await self.changes(
                room_id, since_rev=since_rev, from_seq=from_seq, limit=limit, member_id=member_id
            )
            if page.reset:
                raise ConflictError(
                    "The changes since that rev are not kept; read the room anew", code="reset"
                )
            for change in page.items:
                yield change
                since_rev = max(since_rev, change.rev)
            if not page.has_more or not page.items:
                return

    # -- signals --------------------------------------------------------------------------------

    async def signal(self, room_id: str, name: str, data: Any = None) -> None:
        """Tell all sockets of the room something that is stored nowhere. Needs the API key. Feature `signals`.

        *name*: 1 to 32 of `a-z0-9._-`; *data*: any JSON of at most 1 KiB.
        """
        await self._api.require("signals")
        body = {"name": name, "data": data}
        await self._api.request("POST", self._path(room_id, self._routes.signals), body=body)

    # -- a member's own side --------------------------------------------------------------------

    def _mine_path(self, room_id: str, user_id: str | None) -> tuple[str, ...]:
        """The route of the user's own side; with a token alone, of its user's."""
        if user_id is None:
            return self._path(room_id, self._routes.mine)
        return *self._member_path(room_id, user_id), self._routes.mine

    async def mine(self, room_id: str, *, user_id: str | None = None) -> Mine:
        """The user's own side of the room: marks, unread, whether it is muted, archived or pinned. Feature `mine`."""
        await self._api.require("mine")
        return await self._api.request(
            "GET", self._mine_path(room_id, user_id), Mine, auth="either"
        )

    async def update_mine(
        self,
        room_id: str,
        *,
        user_id: str | None = None,
        notify: Literal["all", "mentions", "none"] | UnsetType | None = UNSET,
        muted_until: datetime | UnsetType | None = UNSET,
        archived: Literal["no", "until_message", "yes"] | UnsetType = UNSET,
        pinned: bool | UnsetType = UNSET,
        marked_unread: bool | UnsetType = UNSET,
        clear_history: Literal[True] | UnsetType = UNSET,
        **more: Any,
    ) -> Mine:
        """Change the fields of the user's own side that are passed; None clears one. Only this user sees it.

        *archived* `until_message`: until the next message. *clear_history* hides all earlier messages from this user
        for good. *more*: fields of a newer server. Feature `mine`.
        """
        await self._api.require("mine")
        body = without_unset(
            more,
            notify=notify,
            muted_until=muted_until,
            archived=archived,
            pinned=pinned,
            marked_unread=marked_unread,
            clear_history=clear_history,
        )
        path = self._mine_path(room_id, user_id)
        return await self._api.request("PATCH", path, Mine, auth="either", body=body)

    async def mark_read(self, room_id: str, *, seq: int, user_id: str | None = None) -> ReadMark:
        """Move the user's read mark up to *seq*. It never moves back."""
        return await self._api.request(
            "PUT",
            self._path(room_id, self._routes.read),
            ReadMark,
            auth="either",
            body=without_none(user_id=user_id, seq=seq),
        )

    async def mark_delivered(
        self, room_id: str, *, seq: int, user_id: str | None = None
    ) -> DeliveredMark:
        """Say that messages up to *seq* have reached one of the user's devices. Never moves back. Feature `mine`."""
        await self._api.require("mine")
        return await self._api.request(
            "PUT",
            self._path(room_id, self._routes.delivered),
            DeliveredMark,
            auth="either",
            body=without_none(user_id=user_id, seq=seq),
        )

    async def mark_all_read(
        self, user_id: str, *, rooms: Mapping[str, int] | None = None
    ) -> Totals:
        """Mark many rooms of the user as read: *rooms* up to these `seq` (at most 200), or all of them.

        Raises NotFoundError, and marks nothing, if one of *rooms* is not the user's. Needs the API key. Feature `mine`.
        """
        await self._api.require("mine")
        if rooms is not None and not rooms:
            raise ValidationError("rooms is empty; leave it out for all", code="bad_request")
        body = {"all": True} if rooms is None else {"rooms": dict(rooms)}
        path = self._routes.users, checked_id(user_id, "user_id"), self._routes.read
        return (await self._api.request("POST", path, TotalsOf, body=body)).totals
