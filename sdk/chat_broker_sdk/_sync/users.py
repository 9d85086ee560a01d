"""client.users"""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

from chat_broker_sdk._errors import ConflictError, ValidationError
from chat_broker_sdk._fields import UNSET, UnsetType, given, present
from chat_broker_sdk._models import ChatUser, Page, RevokeReceipt, Token
from chat_broker_sdk._pages import PageWalk
from chat_broker_sdk._urls import checked_id

from .api import Api

_USERNAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Users:
    """The project's users. Every call needs the API key."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._routes = api.dialect.routes

    def _path(self, user_id: str, *more: str) -> tuple[str, ...]:
        return self._routes.users, checked_id(user_id, "user_id"), *more

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
        """Create a user. Raises ConflictError (`username_taken`, `external_user_id_taken`)."""
        body = present(
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
        """Every user once, in pages of *limit* (20 to 200): none is skipped when users are created or deleted meanwhile."""
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
        """Change the fields given; None clears one. `status="suspended"` closes the user's connections."""
        body = given(
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
        """Delete a user; their messages stay."""
        self._api.request("DELETE", self._path(user_id))

    def generate_token(self, user_id: str, *, expires_in: int | None = None) -> Token:
        """Mint a chat JWT for the user, good for *expires_in* seconds (server's default: 900)."""
        return self._api.request(
            "POST",
            self._path(user_id, self._routes.token),
            Token,
            body=present(expires_in=expires_in),
        )

    def revoke_token(self, user_id: str, *, session_id: str | None = None) -> RevokeReceipt:
        """Make all tokens of the user, or of one session, worthless and close their connections."""
        return self._api.request(
            "POST",
            self._path(user_id, self._routes.revoke),
            RevokeReceipt,
            body=present(session_id=session_id),
        )

    def revoke_all(self) -> RevokeReceipt:
        """Make every token of the project worthless. Not every Chat API can: UnsupportedOperationError, NotFoundError."""
        return self._api.request("POST", (self._routes.revoke,), RevokeReceipt, body={})

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
        """The user with this external id: created now, or found. Any number of callers get the same one.

        Without *username*, the external id serves where it can and nobody has that name in any case, else a
        digest of it. An existing user is not changed. Raises ConflictError where somebody else has the username.
        """
        conflict: ConflictError | None = None
        for name in _usernames(external_user_id) if username is None else [username]:
            for _ in range(2):  # the second round: the user in the way was deleted in between
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
                found = self.find(external_user_id)
                if found is not None:
                    return found
                if conflict.code == "username_taken":
                    break
        assert conflict is not None  # noqa: S101 - or the call has returned
        raise conflict

    def find(self, external_user_id: str) -> ChatUser | None:
        """The user with this external id, or None; also on a server that ignores the filter."""
        if not external_user_id:
            raise ValidationError("external_user_id is empty", code="bad_request")
        for user in self.iterate(external_user_id=external_user_id):
            if user.external_user_id == external_user_id:
                return user
        return None


def _usernames(external_user_id: str) -> list[str]:
    """What to call somebody of whom only the external id is known, best first."""
    digest = hashlib.sha256(external_user_id.encode("utf-8", "surrogatepass")).hexdigest()
    own = [external_user_id] if _USERNAME.fullmatch(external_user_id) else []
    return [*own, f"u-{digest[:32]}"]
