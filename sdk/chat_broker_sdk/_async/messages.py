"""client.messages: posting, reading, editing and deleting messages."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar, overload

from chat_broker_sdk._errors import ValidationError
from chat_broker_sdk._fields import without_none
from chat_broker_sdk._models import Message, MessageReceipts, Page
from chat_broker_sdk._urls import checked_id

from .reactions import AsyncReactions

T = TypeVar("T")

_PAGE = Page[Message]


class AsyncMessages(AsyncReactions):
    """The messages of a room. With the API key, for any member; with a token alone, for its user."""

    async def create(
        self,
        room_id: str,
        *,
        content: str | None = None,
        user_id: str | None = None,
        client_msg_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        reply_to: str | None = None,
        mentions: Sequence[str] | None = None,
        mention_room: bool = False,
        silent: bool = False,
        event: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Message:
        """Post *content* (1 to 8,000 characters) in the room as *user_id*. Retries never post it twice.

        A repeated *client_msg_id* returns the first message. Raises AuthenticationError (`not_a_member`) if the
        user is not in the room.

        *reply_to*: the id of the message of this room that it answers; raises NotFoundError (`message_not_found`) for
        any other. Feature `replies`. *mentions*: the ids of at most 50 members; raises ValidationError about
        `mentions[n]` for one who is none. *mention_room* names everybody, in a large room for owners and moderators
        alone. Both need the feature `mentions`. *silent*: told, but unread for nobody.
        *event*: makes it a system message, which the API key alone posts: an object with a `name`, and what goes with
        it. Only then *content* may be left out.
        """
        if reply_to is not None:
            await self._api.require("replies")
        if mentions or mention_room:
            await self._api.require("mentions")
        body = without_none(
            content=content,
            user_id=user_id,
            client_msg_id=client_msg_id,
            metadata=metadata,
        )
        if reply_to is not None or mentions or mention_room or silent or event is not None:
            body |= without_none(
                reply_to=reply_to,
                mentions=list(mentions) if mentions else None,
                mention_room=mention_room or None,
                silent=silent or None,
                type=None if event is None else "system",
                event=event,
            )
        return await self._api.request(
            "POST",
            self._path(room_id),
            Message,
            auth="either",
            body=body,
            creates=True,
            idempotency_key=idempotency_key,
        )

    @overload
    async def list(
        self,
        room_id: str,
        *,
        page: int | None = ...,
        limit: int | None = ...,
        before: int | None = ...,
        after: int | None = ...,
        around: int | None = ...,
        ids: Sequence[str] | None = ...,
        from_seq: int | None = ...,
        viewer_id: str | None = ...,
    ) -> Page[Message]: ...

    @overload
    async def list(
        self,
        room_id: str,
        *,
        page: int | None = ...,
        limit: int | None = ...,
        before: int | None = ...,
        after: int | None = ...,
        around: int | None = ...,
        ids: Sequence[str] | None = ...,
        from_seq: int | None = ...,
        viewer_id: str | None = ...,
        into: type[T],
    ) -> T: ...

    async def list(
        self,
        room_id: str,
        *,
        page: int | None = None,
        limit: int | None = None,
        before: int | None = None,
        after: int | None = None,
        around: int | None = None,
        ids: Sequence[str] | None = None,
        from_seq: int | None = None,
        viewer_id: str | None = None,
        into: Any = _PAGE,
    ) -> Any:
        """One page, by number and newest first, or by cursor: *before* and *after* are a `seq`.

        *around*: messages on both sides of a `seq`; *ids*: at most 50 of them, unknown ones left out. Both are in order
        of `seq`, and need the feature `changes`. *from_seq*: without messages below it; it needs the feature `roles`.
        *viewer_id*: with the API key, whose own reactions the page's `mine` tells;
        needs the feature `reactions`.
        *into*: another type for msgspec to decode the response into; `bytes` for the body as it is, of which only the
        content type has been checked.
        """
        query: dict[str, int | str | None] | None = None
        if not (page is None and limit is None and before is None and after is None):
            query = {"page": page, "limit": limit, "before": before, "after": after}
        if around is not None or ids is not None:
            await self._api.require("changes")
            chosen = None if ids is None else ",".join(checked_id(each, "ids") for each in ids)
            query = {**(query or {}), "around": around, "ids": chosen}
        if from_seq is not None:
            await self._api.require("roles")
            query = {**(query or {}), "from_seq": from_seq}
        if viewer_id is not None:
            await self._api.require("reactions")
            query = {**(query or {}), "viewer_id": checked_id(viewer_id, "viewer_id")}
        return await self._api.request("GET", self._path(room_id), into, auth="either", query=query)

    async def iterate(
        self,
        room_id: str,
        *,
        limit: int = 100,
        before: int | None = None,
        after: int | None = None,
    ) -> AsyncIterator[Message]:
        """Each message of the room once, newest first; with *after*, those after that `seq`, oldest first.

        Pages follow `seq`: no message is repeated or skipped while others are posted. With *after*, messages posted
        meanwhile are included. Raises ValidationError if both *before* and *after* are set.
        """
        if before is not None and after is not None:
            raise ValidationError("before and after exclude each other", code="bad_request")
        if after is not None:
            async for message in self._upwards(room_id, after, limit):
                yield message
            return
        async for message in self._downwards(room_id, before, limit):
            yield message

    async def _upwards(self, room_id: str, after: int, limit: int) -> AsyncIterator[Message]:
        while True:
            page = await self.list(room_id, after=after, limit=limit)
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

    async def _downwards(
        self, room_id: str, before: int | None, limit: int
    ) -> AsyncIterator[Message]:
        number = 1  # grows only on a server without cursors
        seen: set[str] = set()
        while True:
            if before is None:
                page = await self.list(room_id, page=number, limit=limit)
            else:
                page = await self.list(room_id, before=before, limit=limit)
            fresh = [
                message
                for message in page.items
                if message.id not in seen
                and (before is None or message.seq is None or message.seq < before)
            ]
            for message in sorted(fresh, key=lambda message: -(message.seq or 0)):
                yield message
            seqs = [message.seq for message in fresh if message.seq is not None]
            if seqs and len(seqs) == len(fresh):
                before = min(seqs)
                if before <= 1:
                    return
            else:
                # Without seq: page numbers, and ids so that a shifted page repeats nothing.
                seen.update(message.id for message in fresh)
                number += 1
            if page.has_more is False or (before is None and page.is_last) or not page.items:
                return
            if before is not None and not fresh:
                return

    async def get(self, room_id: str, message_id: str, *, from_seq: int | None = None) -> Message:
        """Fetch one message; a deleted one without its content. Feature `changes`.

        Raises NotFoundError for one below *from_seq*, which needs the feature `roles`.
        """
        await self._api.require("changes")
        if from_seq is not None:
            await self._api.require("roles")
        return await self._api.request(
            "GET",
            self._message_path(room_id, message_id),
            Message,
            auth="either",
            query=None if from_seq is None else {"from_seq": from_seq},
        )

    async def update(
        self,
        room_id: str,
        message_id: str,
        *,
        content: str | None = None,
        metadata: dict[str, Any] | None = None,
        mentions: Sequence[str] | None = None,
        if_rev: int | None = None,
        user_id: str | None = None,
    ) -> Message:
        """Change a message's content, metadata or mentions. It keeps its `seq` and gets an `edited_at`.

        *mentions* replaces the list: users whom it adds are told that they are named; `[]` names nobody. Feature `mentions`.
        With *if_rev*, only if that is still the message's `rev` (0: never changed). Otherwise raises ConflictError
        (`changed`) with the present `rev`. *if_rev* needs the feature `changes`.
        *user_id*: the API key edits as this user, who has to be the author, and in time: AuthenticationError
        (`not_the_author`, `too_late`). It needs the feature `roles`.
        Raises ConflictError (`message_deleted`, or `not_editable` for a system message).
        """
        if if_rev is not None:
            await self._api.require("changes")
        if mentions is not None:
            await self._api.require("mentions")
        if user_id is not None:
            await self._api.require("roles")
        return await self._api.request(
            "PATCH",
            self._message_path(room_id, message_id),
            Message,
            auth="either",
            body=without_none(
                content=content,
                metadata=metadata,
                mentions=None if mentions is None else list(mentions),
                if_rev=if_rev,
                user_id=user_id,
            ),
        )

    async def receipts(
        self, room_id: str, message_id: str, *, member_id: str | None = None
    ) -> MessageReceipts:
        """Who has read a message, and whom it has reached. *member_id*: with the API key, as this member may see it.

        Raises AuthenticationError (`receipts_off`) in a large room, or for a member who shows none. Feature `receipts`.
        """
        await self._api.require("receipts")
        path = self._message_path(room_id, message_id, self._routes.receipts)
        query = {"member_id": member_id}
        return await self._api.request("GET", path, MessageReceipts, auth="either", query=query)

    async def delete(
        self, room_id: str, message_id: str, *, user_id: str | None = None, purge: bool = False
    ) -> None:
        """Delete a message. It keeps its `seq`, without content. Raises UnsupportedOperationError where not offered.

        *user_id*: the API key deletes as this user, who may delete it by their role: AuthenticationError
        (`not_the_author`). It needs the feature `roles`.
        *purge*: also remove its text from the answers that are stored for an Idempotency-Key. The API key alone may.
        """
        query: dict[str, int | str | None] = {}
        if user_id is not None:
            await self._api.require("roles")
            query["user_id"] = user_id
        if purge:
            query["purge"] = "true"
        await self._api.request(
            "DELETE", self._message_path(room_id, message_id), auth="either", query=query or None
        )
