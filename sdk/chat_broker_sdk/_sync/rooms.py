"""client.rooms: rooms, memberships and read marks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, overload

from chat_broker_sdk._errors import ValidationError
from chat_broker_sdk._fields import UNSET, UnsetType, without_none, without_unset
from chat_broker_sdk._models import (
    AddedMembers,
    CursorPage,
    Member,
    MemberPage,
    Message,
    Page,
    Room,
)
from chat_broker_sdk._pages import PageWalk
from chat_broker_sdk._urls import checked_id

from .room_state import RoomState

_PINS = Page[Message]


class Rooms(RoomState):
    """The project's rooms and their members.

    With the API key, for any user; with a token alone, for its user: `user_id` may then be left out.
    """

    def create(
        self,
        *,
        name: str,
        created_by: str,
        description: str | None = None,
        private: bool | None = None,
        member_ids: Sequence[str] | None = None,
        metadata: dict[str, Any] | None = None,
        external_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Room:
        """Create a room. The user *created_by* becomes its owner and first member.

        *external_id*: the app's own id of it, 1 to 128 characters of A-Z, a-z, 0-9 and ._:@~-; the room may then be named
        `external:<id>` in every call. Feature `external_rooms`. Raises ConflictError (`external_id_taken`).
        """
        if external_id is not None:
            self._api.require("external_rooms")
        body = without_none(
            name=name,
            created_by=created_by,
            description=description,
            private=private,
            member_ids=None if member_ids is None else [*member_ids],
            metadata=metadata,
            external_id=external_id,
        )
        return self._api.request(
            "POST",
            (self._routes.rooms,),
            Room,
            body=body,
            creates=True,
            idempotency_key=idempotency_key,
        )

    def ensure(
        self,
        external_id: str,
        *,
        name: str,
        created_by: str,
        description: str | None = None,
        private: bool | None = None,
        member_ids: Sequence[str] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Room:
        """The one room with the app's own id, created if there is none. Safe for any number of callers at once.

        Of a room that is there nothing is changed, but *created_by* and *member_ids* become members. Raises NotFoundError
        (`user_not_found`). Feature `external_rooms`.
        """
        self._api.require("external_rooms")
        body = without_none(
            name=name,
            created_by=created_by,
            description=description,
            private=private,
            member_ids=None if member_ids is None else [*member_ids],
            metadata=metadata,
        )
        path = self._path(f"external:{external_id}")
        return self._api.request("PUT", path, Room, body=body)

    def ensure_direct(self, user_ids: Sequence[str], *, created_by: str | None = None) -> Room:
        """The one direct room of these 1 to 8 users, created if there is none. Safe for any number of callers at once.

        Its members never change. One user alone has a room of notes. *created_by* is one of them; None: the first.
        Raises NotFoundError (`user_not_found`). Feature `direct`.
        """
        self._api.require("direct")
        body = without_none(user_ids=[*user_ids], created_by=created_by)
        return self._api.request("PUT", (self._routes.direct,), Room, body=body)

    def get(self, room_id: str) -> Room:
        """Fetch one room. Raises NotFoundError if it does not exist or this user may not see it."""
        return self._api.request("GET", self._path(room_id), Room, auth="either")

    @overload
    def list(
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
    def list(
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

    def list(
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
            self._api.require("mine")
        into: Any = Page[Room] if sort is None else CursorPage[Room]
        rooms: Page[Room] | CursorPage[Room] = self._api.request(
            "GET", (self._routes.rooms,), into, auth="either", query={**query, **more}
        )
        return rooms

    def iterate(
        self,
        *,
        limit: int = 200,
        member_id: str | None = None,
        private: bool | None = None,
        q: str | None = None,
    ) -> Iterator[Room]:
        """Each room once, in pages of *limit* (20 to 200). None is skipped when rooms are created or deleted meanwhile."""
        walk = PageWalk[Room](limit, lambda room: room.id)
        while not walk.done:
            page = self.list(
                page=walk.number, limit=walk.size, member_id=member_id, private=private, q=q
            )
            for room in walk.fresh(page):
                yield room

    def update(
        self,
        room_id: str,
        *,
        name: str | UnsetType = UNSET,
        description: str | UnsetType | None = UNSET,
        private: bool | UnsetType = UNSET,
        metadata: dict[str, Any] | UnsetType | None = UNSET,
        settings: Mapping[str, Any] | UnsetType = UNSET,
        by: str | UnsetType = UNSET,
        **more: Any,
    ) -> Room:
        """Change the fields that are passed; None clears one. *more*: fields of a newer server.

        Of *settings* those that are named change, such as `{"read_only": True}`; they need the feature `roles`. An
        unknown one raises ValidationError. *by*: the member who does it, an owner; it needs the feature `roles`, too.
        Raises UnsupportedOperationError where not offered.
        """
        if settings is not UNSET or by is not UNSET:
            self._api.require("roles")
        body = without_unset(
            more,
            name=name,
            description=description,
            private=private,
            metadata=metadata,
            settings=settings,
            by=by,
        )
        return self._api.request("PATCH", self._path(room_id), Room, body=body)

    def pins(self, room_id: str, *, member_id: str | None = None) -> Page[Message]:
        """All pinned messages of the room, newest pin first, at most 50. Feature `pins`.

        *member_id*: with the API key, those that this member sees, and their own reactions in the page's `mine`.
        """
        self._api.require("pins")
        query = None if member_id is None else {"member_id": checked_id(member_id, "member_id")}
        return self._api.request(
            "GET", self._path(room_id, self._routes.pins), _PINS, auth="either", query=query
        )

    def delete(self, room_id: str) -> None:
        """Delete a room. Raises UnsupportedOperationError where not offered."""
        self._api.request("DELETE", self._path(room_id))

    def join(self, room_id: str, *, user_id: str | None = None) -> Member:
        """Make the user a member. Does nothing for a member."""
        return self._api.request(
            "POST",
            self._path(room_id, self._routes.join),
            Member,
            auth="either",
            body=without_none(user_id=user_id),
        )

    def leave(self, room_id: str, *, user_id: str | None = None) -> None:
        """End the user's membership. Does nothing for a user who is not a member."""
        self._api.request(
            "POST",
            self._path(room_id, self._routes.leave),
            auth="either",
            body=without_none(user_id=user_id),
        )

    @overload
    def members(
        self, room_id: str, *, page: int | None = ..., limit: int | None = ...
    ) -> Page[Member]: ...

    @overload
    def members(
        self,
        room_id: str,
        *,
        page: int | None = ...,
        limit: int | None = ...,
        ids: Sequence[str] | None = ...,
        role: str | None = ...,
        q: str | None = ...,
        cursor: str | None = ...,
    ) -> MemberPage: ...

    def members(
        self,
        room_id: str,
        *,
        page: int | None = None,
        limit: int | None = None,
        ids: Sequence[str] | None = None,
        role: str | None = None,
        q: str | None = None,
        cursor: str | None = None,
    ) -> Page[Member] | MemberPage:
        """One page of the room's members, by user id. Pages count from 1.

        With any of the following a MemberPage. *ids*: those of at most 100 users who are members. *role*, *q*: with this
        role, with this text in the username or display name. *cursor*: the members after it, "" for the first ones; unlike
        a page, it costs the same anywhere.
        """
        if ids is not None and not ids:
            raise ValidationError("ids is empty; leave it out for all", code="bad_request")
        chosen = None if ids is None else ",".join(checked_id(each, "ids") for each in ids)
        query: dict[str, str | int | None] = {"page": page, "limit": limit}
        some = {"ids": chosen, "role": role, "q": q, "cursor": cursor}
        path = self._path(room_id, self._routes.members)
        if all(value is None for value in some.values()):
            return self._api.request("GET", path, Page[Member], auth="either", query=query)
        return self._api.request("GET", path, MemberPage, auth="either", query={**query, **some})

    def iterate_members(self, room_id: str, *, limit: int = 200) -> Iterator[Member]:
        """Each member once, in pages of *limit* (20 to 200). None is skipped when members join or leave meanwhile."""
        walk = PageWalk[Member](limit, lambda member: member.user_id)
        while not walk.done:
            page = self.members(room_id, page=walk.number, limit=walk.size)
            for member in walk.fresh(page):
                yield member

    def member(self, room_id: str, user_id: str) -> Member:
        """One user's membership. Raises NotFoundError if the user is not in the room."""
        return self._api.request("GET", self._member_path(room_id, user_id), Member, auth="either")

    def put_member(
        self, room_id: str, user_id: str, *, role: str | None = None, by: str | None = None
    ) -> Member:
        """Add a member, or change a member's role (see `set_role`).

        *by*: the member who does it, with their rights and no others; it needs the feature `roles`.
        """
        if by is not None:
            self._api.require("roles")
        return self._api.request(
            "PUT", self._member_path(room_id, user_id), Member, body=without_none(role=role, by=by)
        )

    def add_members(
        self,
        room_id: str,
        user_ids: Sequence[str],
        *,
        role: str | None = None,
        by: str | None = None,
        idempotency_key: str | None = None,
    ) -> AddedMembers:
        """Make all of these users (at most 100) members with *role*, or none. Who is one keeps their role.

        *by*: the member who does it, with their rights and no others; it needs the feature `roles`.

        Raises NotFoundError (`user_not_found`, which names the first missing), and ConflictError (`direct_room`).
        """
        if by is not None:
            self._api.require("roles")
        return self._api.request(
            "POST",
            self._path(room_id, self._routes.members),
            AddedMembers,
            body=without_none(user_ids=[*user_ids], role=role, by=by),
            creates=True,
            idempotency_key=idempotency_key,
        )

    def set_role(self, room_id: str, user_id: str, role: str, *, by: str | None = None) -> Member:
        """Give a user a role: `owner`, `moderator`, `member` or `guest`. Who is no member becomes one.

        *by*: the member who does it; AuthenticationError (`owner_only`) if they are no owner. Raises ConflictError
        (`last_owner`) where the room would have no owner. Feature `roles`.
        """
        self._api.require("roles")
        return self.put_member(room_id, user_id, role=role, by=by)

    def remove_member(self, room_id: str, user_id: str, *, by: str | None = None) -> None:
        """End a user's membership. Raises NotFoundError if the user is not in the room.

        *by*: the member who does it; AuthenticationError (`owner_only`) for a member of their rank or above. It needs
        the feature `roles`.
        """
        query = None
        if by is not None:
            self._api.require("roles")
            query = {"by": by}
        self._api.request("DELETE", self._member_path(room_id, user_id), query=query)
