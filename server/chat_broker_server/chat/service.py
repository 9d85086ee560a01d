"""What happens in rooms: the rules, used by REST and by the sockets alike.

`Chat` knows no web framework. Each method is one transaction, written in the file of its noun
(`users.py`, `rooms.py`, `members.py`, `messages.py`); what others must hear of is published after
the COMMIT, in commit order. Every method takes the project first, and reaches nothing outside it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from chat_broker_kit.database.transactions import Database
from chat_broker_server.chat import members, messages, rooms, users
from chat_broker_server.chat.events import Event
from chat_broker_server.chat.features import FEATURES, LIMITS
from chat_broker_server.chat.models import (
    Idempotency,
    Member,
    Message,
    Page,
    Project,
    ReadMark,
    Room,
    RoomChanges,
    RoomDraft,
    User,
    UserChanges,
    UserDraft,
)


class Chat:
    """Users, rooms, members and messages of the projects in one database.

    Raises the errors of `errors.py`: NotFound for what is missing or of another project,
    Unavailable while the database cannot answer. Methods with *idempotency* raise
    `idempotency.Replayed` with the first answer when that key was used before.
    """

    def __init__(
        self, database: Database, publish: Callable[[Event], None], *, epoch: str = ""
    ) -> None:
        """*epoch*: of *database*, see `cluster.deployment`."""
        self.epoch = epoch
        self._database = database
        self._publish = publish

    # projects

    async def project(self, pid: str) -> Project:
        """The project itself, and what is offered. Raises NotFound."""
        name = await self._database.read(partial(users.project_name, pid))
        return Project(pid, name, self.epoch, FEATURES, LIMITS)

    # users

    async def create_user(
        self, pid: str, draft: UserDraft, *, idempotency: Idempotency | None = None
    ) -> User:
        """Create a user. Raises Conflict `username_taken` or `external_user_id_taken`."""
        return await self._database.write(partial(users.create, pid, draft, idempotency))

    async def get_user(self, pid: str, user_id: str) -> User:
        """One user. Raises NotFound, also for a deleted one."""
        return await self._database.read(partial(users.get, pid, user_id))

    async def list_users(
        self,
        pid: str,
        *,
        page: int = 1,
        limit: int = 50,
        external_user_id: str | None = None,
        username: str | None = None,
        status: str | None = None,
        q: str | None = None,
    ) -> Page:
        """A page of users, oldest first; *q* looks inside usernames, names and external ids, as `fold` compares them."""
        where = users.Filter(external_user_id, username, status, q)
        slow = q is not None or (page - 1) * limit > 10_000
        return await self._database.read(partial(users.page, pid, where, page, limit), slow=slow)

    async def update_user(self, pid: str, user_id: str, changes: UserChanges) -> User:
        """Change a user. Suspending raises the token generation: every token is dead for good."""
        return await self._database.write(partial(users.update, pid, user_id, changes))

    async def delete_user(self, pid: str, user_id: str) -> None:
        """Delete a user: their tokens die, they leave their rooms, their messages stay."""
        await self._database.write(partial(users.delete, pid, user_id), self._publish_all)

    # rooms

    async def create_room(
        self, pid: str, draft: RoomDraft, *, idempotency: Idempotency | None = None
    ) -> Room:
        """Create a room with its owner and members. Raises NotFound `user_not_found`."""
        return await self._database.write(partial(rooms.create, pid, draft, idempotency))

    async def get_room(self, pid: str, room_id: str) -> Room:
        """One room. Raises NotFound."""
        return await self._database.read(partial(rooms.get, pid, room_id))

    async def list_rooms(
        self,
        pid: str,
        *,
        page: int = 1,
        limit: int = 50,
        member_id: str | None = None,
        private: bool | None = None,
        q: str | None = None,
    ) -> Page:
        """A page of rooms, oldest first; with *member_id* those of that user, with `unread`.

        *q* looks inside names and descriptions, as `fold` compares them.
        """
        where = rooms.Filter(member_id, private, q)
        slow = q is not None or (page - 1) * limit > 10_000
        return await self._database.read(partial(rooms.page, pid, where, page, limit), slow=slow)

    async def update_room(self, pid: str, room_id: str, changes: RoomChanges) -> Room:
        """Change a room; its sockets hear `roomUpdated`."""
        return await self._database.write(
            partial(rooms.update, pid, room_id, changes),
            lambda room: self._publish(rooms.updated(room)),
        )

    async def delete_room(self, pid: str, room_id: str) -> None:
        """Delete a room and all that was said in it; its sockets hear `roomDeleted`."""
        await self._database.write(
            partial(rooms.delete, pid, room_id),
            lambda _: self._publish(rooms.deleted(pid, room_id)),
        )

    # members

    async def join(
        self, pid: str, room_id: str, user_id: str, *, may_enter_private: bool
    ) -> Member:
        """Make the user a member, if they are not. A private room is NotFound to outsiders
        unless *may_enter_private*: the key may, a user may not."""
        member, _ = await self._database.write(
            partial(members.join, pid, room_id, user_id, may_enter_private=may_enter_private),
            self._publish_second,
        )
        return member

    async def leave(
        self, pid: str, room_id: str, user_id: str, *, hide_private: bool = False
    ) -> None:
        """End the membership, if there is one. With *hide_private* (a user asks for themselves)
        a private room they are not in is NotFound."""
        await self._database.write(
            partial(members.leave, pid, room_id, user_id, hide_private=hide_private),
            self._publish_all,
        )

    async def member(self, pid: str, room_id: str, user_id: str) -> Member | None:
        """The membership of a user in a room, or None: no room, no user or no member."""
        return await self._database.read(partial(members.get, pid, room_id, user_id))

    async def members(self, pid: str, room_id: str, *, page: int = 1, limit: int = 50) -> Page:
        """A page of the room's members, oldest accounts first. Raises NotFound for no room."""
        slow = (page - 1) * limit > 10_000
        return await self._database.read(
            partial(members.page, pid, room_id, page, limit), slow=slow
        )

    async def put_member(
        self, pid: str, room_id: str, user_id: str, *, role: str | None = None
    ) -> Member:
        """Make the user a member with *role*; None keeps the role there is, or means `member`."""
        member, _ = await self._database.write(
            partial(members.put, pid, room_id, user_id, role), self._publish_second
        )
        return member

    async def remove_member(self, pid: str, room_id: str, user_id: str) -> None:
        """End the membership, if there is one. Raises NotFound for no room."""
        await self.leave(pid, room_id, user_id)

    # messages

    async def post(
        self,
        pid: str,
        room_id: str,
        user_id: str,
        content: str,
        *,
        client_msg_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        hide_private: bool = False,
        idempotency: Idempotency | None = None,
    ) -> Message:
        """Say *content* in the room, as a member. A repeated *client_msg_id* answers the first.

        Raises Forbidden `not_a_member`; NotFound if there is no room, or, with *hide_private*
        (a user speaks for themselves), if it is private and not theirs; Forbidden
        `user_suspended` for a suspended sender.
        """
        draft = messages.Draft(user_id, content, client_msg_id, metadata or {})
        message, _ = await self._database.write(
            partial(messages.post, pid, room_id, draft, hide_private, idempotency),
            self._publish_second,
            shortcut=partial(messages.post_at_once, pid, room_id, draft, idempotency),
        )
        return message

    async def messages_page(
        self, pid: str, room_id: str, *, page: int = 1, limit: int = 50
    ) -> Page:
        """A page of messages, newest first."""
        return await self._database.read(partial(messages.page, pid, room_id, page, limit))

    async def messages_between(
        self,
        pid: str,
        room_id: str,
        *,
        before: int | None = None,
        after: int | None = None,
        limit: int = 50,
    ) -> Page:
        """Messages next to a cursor (a `seq`): newest first before it, oldest first after it."""
        return await self._database.read(
            partial(messages.between, pid, room_id, before, after, limit)
        )

    async def missed(
        self, pid: str, room_id: str, since_seq: int, limit: int = 200
    ) -> list[Message]:
        """The first *limit* messages after *since_seq*, oldest first; [] if there is no room."""
        return await self._database.read(partial(messages.after, pid, room_id, since_seq, limit))

    async def edit(
        self, pid: str, room_id: str, message_id: str, content: str, *, by: str | None
    ) -> Message:
        """Replace the content. *by* is the user who asks (author or owner), None for the key.

        Raises NotFound, Forbidden `not_the_author`, Conflict `message_deleted`.
        """
        return await self._database.write(
            partial(messages.edit, pid, room_id, message_id, content, by),
            lambda message: self._publish(messages.event("messageUpdated", pid, message)),
        )

    async def delete_message(
        self, pid: str, room_id: str, message_id: str, *, by: str | None
    ) -> None:
        """Empty the message; it keeps its place. *by* as in `edit`. Repeating changes nothing."""
        await self._database.write(
            partial(messages.delete, pid, room_id, message_id, by), self._publish_all
        )

    async def mark_read(
        self, pid: str, room_id: str, user_id: str, seq: int, *, hide_private: bool = False
    ) -> ReadMark:
        """Move the member's read mark forward to *seq*; it never moves back or past the end."""
        return await self._database.write(
            partial(messages.mark_read, pid, room_id, user_id, seq, hide_private)
        )

    def _publish_all(self, events: list[Event]) -> None:
        for event in events:
            self._publish(event)

    def _publish_second(self, answer: tuple[Any, Event | None]) -> None:
        if answer[1] is not None:
            self._publish(answer[1])
