"""client.users: users and their chat tokens."""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

from chat_broker_sdk._emulation import emulated_totals
from chat_broker_sdk._errors import ConflictError, ValidationError
from chat_broker_sdk._fields import UNSET, UnsetType, without_none, without_unset
from chat_broker_sdk._models import ChatUser, Page, RevokeReceipt, Token, Totals
from chat_broker_sdk._pages import PageWalk

from .people import People
from .rooms import Rooms

_USERNAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Users(People):
    """The project's users. Each call needs the API key."""

    def create(
        self,
        *,
        username: str,
        external_user_id: str,
        display_name: str | None = None,
        email: str | None = None,
        avatar_url: str | None = None,
        metadata: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> ChatUser:
        """Create a user. Raises ConflictError (`username_taken`, `external_user_id_taken`).

        *external_user_id*: the user's permanent id in your own application.
        """
        body = without_none(
            username=username,
            external_user_id=external_user_id,
            display_name=display_name,
            email=email,
            avatar_url=avatar_url,
            metadata=metadata,
        )
        return self._api.request(
            "POST",
            (self._routes.users,),
            ChatUser,
            body=body,
            creates=True,
            idempotency_key=idempotency_key,
        )

    def get(self, user_id: str) -> ChatUser:
        """Fetch one user. Raises NotFoundError if there is none."""
        return self._api.request("GET", self._path(user_id), ChatUser)

    def list(
        self,
        *,
        page: int | None = None,
        limit: int | None = None,
        external_user_id: str | None = None,
        username: str | None = None,
        status: str | None = None,
        q: str | None = None,
    ) -> Page[ChatUser]:
        """One page of users, filtered. Pages count from 1."""
        query = {
            "page": page,
            "limit": limit,
            "external_user_id": external_user_id,
            "username": username,
            "status": status,
            "q": q,
        }
        return self._api.request("GET", (self._routes.users,), Page[ChatUser], query=query)

    def iterate(
        self,
        *,
        limit: int = 200,
        external_user_id: str | None = None,
        username: str | None = None,
        status: str | None = None,
        q: str | None = None,
    ) -> Iterator[ChatUser]:
        """Each user once, in pages of *limit* (20 to 200). None is skipped when users are created or deleted meanwhile."""
        walk = PageWalk[ChatUser](limit, lambda user: user.id)
        while not walk.done:
            page = self.list(
                page=walk.number,
                limit=walk.size,
                external_user_id=external_user_id,
                username=username,
                status=status,
                q=q,
            )
            for user in walk.fresh(page):
                yield user

    def update(
        self,
        user_id: str,
        *,
        username: str | UnsetType = UNSET,
        display_name: str | UnsetType | None = UNSET,
        email: str | UnsetType | None = UNSET,
        avatar_url: str | UnsetType | None = UNSET,
        status: str | UnsetType = UNSET,
        metadata: dict[str, Any] | UnsetType | None = UNSET,
        **more: Any,
    ) -> ChatUser:
        """Change the fields that are passed; None clears one. *more*: fields of a newer server.

        `status="suspended"` closes the user's connections.
        """
        body = without_unset(
            more,
            username=username,
            display_name=display_name,
            email=email,
            avatar_url=avatar_url,
            status=status,
            metadata=metadata,
        )
        return self._api.request("PATCH", self._path(user_id), ChatUser, body=body)

    def delete(self, user_id: str) -> None:
        """Delete a user. The user's messages stay."""
        self._api.request("DELETE", self._path(user_id))

    def generate_token(self, user_id: str, *, expires_in: int | None = None) -> Token:
        """A chat JWT for the user, valid for *expires_in* seconds (the server's default: 900)."""
        return self._api.request(
            "POST",
            self._path(user_id, self._routes.token),
            Token,
            body=without_none(expires_in=expires_in),
        )

    def revoke_token(self, user_id: str, *, session_id: str | None = None) -> RevokeReceipt:
        """Revoke all tokens of the user, or of one session, and close their live connections."""
        return self._api.request(
            "POST",
            self._path(user_id, self._routes.revoke),
            RevokeReceipt,
            body=without_none(session_id=session_id),
        )

    def revoke_all(self) -> RevokeReceipt:
        """Revoke all tokens of the project. Raises UnsupportedOperationError or NotFoundError where not offered."""
        return self._api.request("POST", (self._routes.revoke,), RevokeReceipt, body={})

    def unread(self, user_id: str) -> Totals:
        """What is unread in all rooms of the user that are neither silenced nor archived.

        On a server without the feature `mine`, the sum over all rooms of the user.
        """
        if self._api.supports("mine"):
            path = self._path(user_id, self._routes.unread)
            return self._api.request("GET", path, Totals)
        return emulated_totals([room for room in Rooms(self._api).iterate(member_id=user_id)])

    def ensure(
        self,
        external_user_id: str,
        *,
        username: str | None = None,
        display_name: str | None = None,
        email: str | None = None,
        avatar_url: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> ChatUser:
        """The user with this external id, created if there is none. Concurrent calls return one and the same user.

        Without *username*, it is the external id if that is valid and free, else a digest of it. An existing user is
        not changed. Raises ConflictError if another user has the username.
        """
        conflict: ConflictError | None = None
        for name in _usernames(external_user_id) if username is None else [username]:
            for _ in range(2):  # again if the conflicting user was deleted before it could be read
                try:
                    return self.create(
                        username=name,
                        external_user_id=external_user_id,
                        display_name=display_name,
                        email=email,
                        avatar_url=avatar_url,
                        metadata=metadata,
                    )
                except ConflictError as error:
                    conflict = error
                user = self.find(external_user_id)
                if user is not None:
                    return user
                if conflict.code == "username_taken":
                    break
        assert conflict is not None  # noqa: S101 - or the call has returned
        raise conflict

    def find(self, external_user_id: str) -> ChatUser | None:
        """The user with this external id, or None. Also works on a server that ignores the filter.

        Raises ValidationError if the id is empty.
        """
        if not external_user_id:
            raise ValidationError("external_user_id is empty", code="bad_request")
        for user in self.iterate(external_user_id=external_user_id):
            if user.external_user_id == external_user_id:
                return user
        return None


def _usernames(external_user_id: str) -> list[str]:
    """The usernames to try for an external id, best first."""
    digest = hashlib.sha256(external_user_id.encode("utf-8", "surrogatepass")).hexdigest()
    own = [external_user_id] if _USERNAME.fullmatch(external_user_id) else []
    return [*own, f"u-{digest[:32]}"]
