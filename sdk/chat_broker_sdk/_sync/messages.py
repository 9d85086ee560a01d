"""client.messages"""

from collections.abc import Iterator
from typing import Any, TypeVar, overload

from chat_broker_sdk._errors import ValidationError
from chat_broker_sdk._fields import present
from chat_broker_sdk._models import Message, Page
from chat_broker_sdk._urls import checked_id

from .api import Api

T = TypeVar("T")

_PAGE = Page[Message]


class Messages:
    """Messages of a room. With the API key, for any member; with a token alone, for that user."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._routes = api.dialect.routes

    def _path(self, room_id: str) -> tuple[str, ...]:
        return self._routes.rooms, checked_id(room_id, "room_id"), self._routes.messages

    def _message(self, room_id: str, message_id: str) -> tuple[str, ...]:
        return *self._path(room_id), checked_id(message_id, "message_id")

    def create(
        self,
        room_id: str,
        *,
        content: str,
        user_id: str | None = None,
        client_msg_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Message:
        """Say *content* in the room as *user_id*, exactly once however often the call is repeated.

        Raises AuthenticationError with code `not_a_member` if the user is not in the room.
        """
        body = present(
            content=content, user_id=user_id, client_msg_id=client_msg_id, metadata=metadata
        )
        return self._api.request(
            "POST",
            self._path(room_id),
            Message,
            who="either",
            body=body,
            creates=True,
            idempotency_key=idempotency_key,
        )

    @overload
    def list(
        self,
        room_id: str,
        *,
        page: int | None = ...,
        limit: int | None = ...,
        before: int | None = ...,
        after: int | None = ...,
    ) -> Page[Message]: ...

    @overload
    def list(
        self,
        room_id: str,
        *,
        page: int | None = ...,
        limit: int | None = ...,
        before: int | None = ...,
        after: int | None = ...,
        into: type[T],
    ) -> T: ...

    def list(
        self,
        room_id: str,
        *,
        page: int | None = None,
        limit: int | None = None,
        before: int | None = None,
        after: int | None = None,
        into: Any = _PAGE,
    ) -> Any:
        """One page: by number, newest first, or by cursor, where *before* and *after* are a `seq`.

        *into*: another type that msgspec knows how to decode, for who wants less of it or wants it otherwise; `bytes`
        for the body as it came, of which nothing but its content type has been looked at.
        """
        query = None
        if not (page is None and limit is None and before is None and after is None):
            query = {"page": page, "limit": limit, "before": before, "after": after}
        return self._api.request("GET", self._path(room_id), into, who="either", query=query)

    def iterate(
        self,
        room_id: str,
        *,
        limit: int = 100,
        before: int | None = None,
        after: int | None = None,
    ) -> Iterator[Message]:
        """Every message of the room once, newest first; with *after*, oldest first from that `seq` on.

        Pages follow `seq`, not numbers: none is repeated or skipped while people write. With *after*,
        what is written meanwhile is included.
        """
        if before is not None and after is not None:
            raise ValidationError("before and after exclude each other", code="bad_request")
        if after is not None:
            for message in self._upwards(room_id, after, limit):
                yield message
            return
        for message in self._downwards(room_id, before, limit):
            yield message

    def _upwards(self, room_id: str, after: int, limit: int) -> Iterator[Message]:
        while True:
            page = self.list(room_id, after=after, limit=limit)
            fresh = sorted(
                (
                    message
                    for message in page.items
                    if message.seq is not None and message.seq > after
                ),
                key=lambda message: message.seq or 0,
            )
            for message in fresh:
                yield message
                after = message.seq or after
            if not fresh or page.has_more is False:
                return

    def _downwards(self, room_id: str, before: int | None, limit: int) -> Iterator[Message]:
        number = 1  # counts on only on a server without cursors
        seen: set[str] = set()
        while True:
            if before is None:
                page = self.list(room_id, page=number, limit=limit)
            else:
                page = self.list(room_id, before=before, limit=limit)
            fresh = [
                message
                for message in page.items
                if message.id not in seen
                and (before is None or message.seq is None or message.seq < before)
            ]
            for message in sorted(fresh, key=lambda message: -(message.seq or 0)):
                yield message
            marks = [message.seq for message in fresh if message.seq is not None]
            if marks and len(marks) == len(fresh):
                before = min(marks)
                if before <= 1:
                    return
            else:
                # No seq to go by: page numbers then, and ids so that a shifted page repeats nothing.
                seen.update(message.id for message in fresh)
                number += 1
            if page.has_more is False or (before is None and page.is_last) or not page.items:
                return
            if before is not None and not fresh:
                return

    def update(self, room_id: str, message_id: str, *, content: str) -> Message:
        """Change what a message says; it keeps its place and gets an `edited_at`."""
        return self._api.request(
            "PATCH",
            self._message(room_id, message_id),
            Message,
            who="either",
            body={"content": content},
        )

    def delete(self, room_id: str, message_id: str) -> None:
        """Delete a message; its place stays, empty. Raises UnsupportedOperationError where not offered."""
        self._api.request("DELETE", self._message(room_id, message_id), who="either")
