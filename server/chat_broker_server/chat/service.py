"""The rules of users, rooms, members and messages, for the REST routes and the sockets.

Each method of `Chat` is one transaction, which `users.py`, `rooms.py`, `members.py` or `messages.py` defines. Its
events are published after the COMMIT, in commit order. *pid* is the project; a method reaches nothing outside it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET

from chat_broker_kit.database.transactions import Database
from chat_broker_server.chat import (
    blocks,
    direct,
    directory,
    ensure,
    events,
    lookups,
    member_lists,
    members,
    mentions,
    messages,
    mine,
    pins,
    presence,
    reactions,
    receipts,
    room_news,
    rooms,
    signals,
    user_settings,
    users,
    watched,
)
from chat_broker_server.chat import delta as deltas
from chat_broker_server.chat import sync as syncs
from chat_broker_server.chat.events import (
    Departure,
    Event,
    Happened,
    MembersAdded,
    MineChanged,
    PrivacyChanged,
    ProfileChanged,
    ReceiptsMoved,
    UserSignalled,
)
from chat_broker_server.chat.features import FEATURES, LIMITS
from chat_broker_server.chat.ids import timestamp
from chat_broker_server.chat.member_lists import MemberFilter
from chat_broker_server.chat.members import NewMembers
from chat_broker_server.chat.message_lock import Actor
from chat_broker_server.chat.mine import Marked
from chat_broker_server.chat.models import (
    AddedMembers,
    Changes,
    CursorPage,
    Delta,
    IdempotencyKey,
    Member,
    Message,
    MessageReceipts,
    Mine,
    MineChanges,
    OwnReactions,
    Page,
    Project,
    PublicUser,
    Reaction,
    ReadMark,
    Receipt,
    Room,
    RoomChanges,
    RoomDraft,
    Signal,
    Sync,
    Totals,
    User,
    UserChanges,
    UserDraft,
    UserSettings,
    UserSettingsChanges,
)
from chat_broker_server.chat.reactions import Wanted
from chat_broker_server.chat.validation import EXTERNAL


class Chat:
    """Users, rooms, members and messages of the projects in one database.

    Raises the errors of `errors.py`: NotFound for what is missing or of another project,
    Unavailable while the database cannot answer. Methods with *idempotency* raise
    `idempotency.Replayed` with the first response if that key was used before.
    """

    def __init__(
        self, database: Database, publish: Callable[[Happened], None], *, epoch: str = ""
    ) -> None:
        """*epoch* identifies *database*, see `cluster.deployment`."""
        self.epoch = epoch
        self._database = database
        self._publish = publish

    @property
    def database(self) -> Database:
        return self._database

    # projects

    async def project(self, pid: str) -> Project:
        name = await self._database.read(partial(users.project_name, pid))
        return Project(pid, name, self.epoch, FEATURES, LIMITS)

    # users

    async def create_user(
        self, pid: str, draft: UserDraft, *, idempotency: IdempotencyKey | None = None
    ) -> User:
        """Create a user. Raises Conflict `username_taken` or `external_user_id_taken`."""
        return await self._database.write(partial(users.create, pid, draft, idempotency))

    async def get_user(self, pid: str, user_id: str) -> User:
        """The user. Raises NotFound, also for a deleted user."""
        return await self._database.read(partial(users.get, pid, user_id))

    async def list_users(
        self, pid: str, where: users.UserFilter, *, page: int = 1, limit: int = 50
    ) -> Page:
        """A page of the users that match, oldest first."""
        slow = where.q is not None or (page - 1) * limit > 10_000
        return await self._database.read(partial(users.page, pid, where, page, limit), slow=slow)

    async def update_user(self, pid: str, user_id: str, changes: UserChanges) -> User:
        """Change a user. Suspending revokes all tokens of the user for good."""

        def publish(result: tuple[User, bool]) -> None:
            if result[1]:
                self._publish(ProfileChanged(pid, user_id))

        user, _ = await self._database.write(partial(users.update, pid, user_id, changes), publish)
        return user

    async def profile(self, pid: str, user_id: str) -> tuple[PublicUser, list[str]]:
        """What others see of the user, and the small rooms whose members see it. Raises NotFound."""
        return await self._database.read(partial(users.profile, pid, user_id))

    async def delete_user(self, pid: str, user_id: str) -> None:
        """Delete a user: revokes the tokens and ends the memberships. The messages stay."""
        await self._database.write(
            partial(room_news.told, pid, partial(users.delete, pid, user_id)), self._publish_all
        )

    async def user_settings(self, pid: str, user_id: str) -> UserSettings:
        """What the user has set about themselves. Raises NotFound."""
        return await self._database.read(partial(user_settings.get, pid, user_id))

    async def update_user_settings(
        self, pid: str, user_id: str, changes: UserSettingsChanges
    ) -> UserSettings:
        """Change the user's settings. Raises NotFound."""

        def publish(settings: UserSettings) -> None:
            if changes.presence is not UNSET or changes.receipts is not UNSET:
                hidden = settings.presence == "hidden"
                self._publish(PrivacyChanged(pid, user_id, hidden, settings.receipts))

        return await self._database.write(
            partial(user_settings.update, pid, user_id, changes), publish
        )

    async def block(self, pid: str, user_id: str, blocked_id: str) -> None:
        """Block a user for another one. Raises NotFound, Conflict `too_many_blocks`, BadInput for one and the same."""
        await self._database.write(
            partial(blocks.block, pid, user_id, blocked_id), self._publish_reload(pid, user_id)
        )

    async def unblock(self, pid: str, user_id: str, blocked_id: str) -> None:
        """End a block, if there is one. Raises NotFound if there is no user who could block."""
        await self._database.write(
            partial(blocks.unblock, pid, user_id, blocked_id), self._publish_reload(pid, user_id)
        )

    async def blocks(self, pid: str, user_id: str, *, page: int = 1, limit: int = 50) -> Page:
        """A page of the users whom the user blocks. Raises NotFound."""
        return await self._database.read(partial(blocks.page, pid, user_id, page, limit))

    async def is_blocked(self, pid: str, room_id: str, user_id: str) -> bool:
        """Whether this is a direct room of two, *user_id* and another, of whom one blocks the other."""
        return await self._database.read(partial(blocks.in_direct_room, pid, room_id, user_id))

    async def find_users(self, pid: str, reader_id: str, q: str, limit: int) -> list[PublicUser]:
        """Users whose username or display name begins with *q*, as the reader may see them. Raises NotFound."""
        return await self._database.read(partial(directory.find, pid, reader_id, q, limit))

    # rooms

    async def create_room(
        self, pid: str, draft: RoomDraft, *, idempotency: IdempotencyKey | None = None
    ) -> Room:
        """Create a room with its owner and members. Raises NotFound `user_not_found`."""
        user_ids = rooms.users_of(draft)
        return await self._database.write(
            partial(rooms.create, pid, draft, idempotency),
            lambda room: self._publish(MembersAdded(pid, room.id, user_ids)),
        )

    async def room_id(self, pid: str, room: str) -> str:
        """The id of a room that is named by it, or by `external:` and the app's own id.

        A name that no room has is returned as it is: it is no room's id either, so all that follows is as for an unknown id.
        """
        if not room.startswith(EXTERNAL):
            return room
        read = partial(ensure.id_of, pid, room.removeprefix(EXTERNAL))
        return await self._database.read(read) or room

    async def ensure_direct(
        self, pid: str, user_ids: Sequence[str], *, created_by: str | None = None
    ) -> tuple[Room, bool]:
        """The direct room of these users, each named once, and whether it is new. One user: a room of notes.

        *created_by* is one of them; None: the first. Raises NotFound `user_not_found`.
        """
        name = ("direct_key", direct.key_of(user_ids))
        room = await self._database.read(partial(ensure.existing, pid, name, user_ids))
        if room is not None:
            return room, False
        make = partial(ensure.direct_room, pid, user_ids, created_by or user_ids[0])
        ensured, _ = await self._database.write(
            partial(room_news.told_with, pid, make),
            lambda result: self._publish_ensured(result, user_ids),
        )
        return ensured.room, ensured.created

    async def ensure_room(self, pid: str, draft: RoomDraft) -> tuple[Room, bool]:
        """The room with the draft's external id, and whether it is new: one that is there is not changed but for new members.

        Raises NotFound `user_not_found`.
        """
        name, user_ids = ("external_id", draft.external_id or ""), rooms.users_of(draft)
        room = await self._database.read(partial(ensure.existing, pid, name, user_ids))
        if room is not None:
            return room, False
        ensured, _ = await self._database.write(
            partial(room_news.told_with, pid, partial(ensure.external_room, pid, draft)),
            lambda result: self._publish_ensured(result, user_ids),
        )
        return ensured.room, ensured.created

    def _publish_ensured(
        self, result: tuple[ensure.Ensured, list[Happened]], user_ids: Sequence[str]
    ) -> None:
        ensured, happened = result
        self._publish_all(happened)
        if ensured.created:
            self._publish(MembersAdded(ensured.room.project_id, ensured.room.id, list(user_ids)))

    async def get_room(self, pid: str, room_id: str) -> Room:
        return await self._database.read(partial(rooms.get, pid, room_id))

    async def list_rooms(
        self, pid: str, where: rooms.RoomFilter, *, page: int = 1, limit: int = 50
    ) -> Page:
        """A page of the rooms that match, oldest first. With a `member_id` each room has that member's side."""
        slow = (
            where.q is not None
            or (page - 1) * limit > 10_000
            or self._counts_slowly(pid, where.member_id)
        )
        return await self._database.read(partial(rooms.page, pid, where, page, limit), slow=slow)

    async def rooms_by_activity(
        self, pid: str, where: rooms.RoomFilter, *, cursor: str | None = None, limit: int = 50
    ) -> CursorPage:
        """The rooms that match, newest activity first. Raises BadInput for a foreign cursor."""
        slow = (
            where.q is not None
            or where.member_id is None
            or self._counts_slowly(pid, where.member_id)
        )
        return await self._database.read(
            partial(rooms.by_activity, pid, where, cursor, limit), slow=slow
        )

    async def update_room(
        self, pid: str, room_id: str, changes: RoomChanges, *, by: str | None = None
    ) -> Room:
        """Change a room and publish `roomUpdated`. *by* is the member who does it, None for the API key."""

        def publish(result: tuple[Room, list[Happened]]) -> None:
            self._publish(events.room_updated(result[0]))
            self._publish_all(result[1])

        change = partial(rooms.update, pid, room_id, changes, by)
        room, _ = await self._database.write(partial(room_news.told_with, pid, change), publish)
        return room

    async def delete_room(self, pid: str, room_id: str) -> None:
        """Delete a room with its messages and publish `roomDeleted`."""
        await self._database.write(
            partial(rooms.delete, pid, room_id),
            lambda _: self._publish(events.room_deleted(pid, room_id)),
        )

    # members

    async def join(
        self, pid: str, room_id: str, user_id: str, *, may_enter_private: bool
    ) -> Member:
        """Make the user a member, if they are not. Raises NotFound for a private room without
        *may_enter_private*, which only the API key has."""
        join = partial(members.join, pid, room_id, user_id, may_enter_private=may_enter_private)
        member, _ = await self._database.write(
            partial(room_news.told_with, pid, join), self._publish_others
        )
        return member

    async def leave(
        self, pid: str, room_id: str, user_id: str, *, hide_private: bool = False
    ) -> None:
        """End the membership, if there is one. With *hide_private* (the user asks, not the API key)
        a private room without that member is NotFound."""
        leave = partial(members.leave, pid, room_id, user_id, hide_private=hide_private)
        await self._database.write(
            partial(room_news.told, pid, leave),
            lambda happened: self._publish_departure(happened, user_id, "left"),
        )

    def _publish_departure(
        self, happened: Sequence[Happened], user_id: str, reason: Departure
    ) -> None:
        for each in happened:
            left = isinstance(each, Event) and each.name == "userLeft" and each.user_id == user_id
            self._publish(msgspec.structs.replace(each, reason=reason) if left else each)

    async def member(
        self, pid: str, room_id: str, user_id: str, *, with_from_seq: bool = False
    ) -> Member | None:
        """The user's membership; None if there is none, or no such room or user. *with_from_seq* is for the member alone."""
        read = members.get_whole if with_from_seq else members.get
        return await self._database.read(partial(read, pid, room_id, user_id))

    async def members(self, pid: str, room_id: str, *, page: int = 1, limit: int = 50) -> Page:
        """A page of the room's members, oldest accounts first. Raises NotFound."""
        slow = (page - 1) * limit > 10_000
        return await self._database.read(
            partial(members.page, pid, room_id, page, limit), slow=slow
        )

    async def some_members(self, pid: str, room_id: str, user_ids: Sequence[str]) -> list[Member]:
        """Those of these users who are members, at most 100, by id. Raises NotFound."""
        return await self._database.read(partial(member_lists.some, pid, room_id, user_ids))

    async def matching_members(
        self, pid: str, room_id: str, where: MemberFilter, *, page: int = 1, limit: int = 50
    ) -> Page:
        """A numbered page of the members that match, with the cursor of what follows. Raises NotFound."""
        read = partial(member_lists.page, pid, room_id, where, page, limit)
        return await self._database.read(read, slow=True)

    async def members_after(
        self, pid: str, room_id: str, where: MemberFilter, cursor: str, *, limit: int = 50
    ) -> CursorPage:
        """The members that match, from *cursor* on; "" is the beginning. Raises NotFound, BadInput for a foreign cursor."""
        read = partial(member_lists.after, pid, room_id, where, cursor, limit)
        return await self._database.read(read, slow=where != MemberFilter())

    async def add_members(
        self,
        pid: str,
        room_id: str,
        new_members: NewMembers,
        *,
        idempotency: IdempotencyKey | None = None,
    ) -> AddedMembers:
        """Make all of these users members, or none. Who is one keeps their role.

        Raises NotFound `user_not_found`, which names the first missing, Forbidden `owner_only` and Conflict `direct_room`.
        """
        added, _ = await self._database.write(
            partial(
                room_news.told_with,
                pid,
                partial(members.add_many, pid, room_id, new_members, idempotency),
            ),
            self._publish_others,
        )
        return added

    async def put_member(
        self,
        pid: str,
        room_id: str,
        user_id: str,
        *,
        role: str | None = None,
        by: str | None = None,
    ) -> Member:
        """Make the user a member with *role*. None keeps the current role; a new member gets `member`.

        *by* is the member who does it, None for the API key. Raises Forbidden, and Conflict `last_owner`.
        """
        member, _ = await self._database.write(
            partial(
                room_news.told_with, pid, partial(members.put, pid, room_id, user_id, role, by)
            ),
            self._publish_others,
        )
        return member

    async def remove_member(
        self, pid: str, room_id: str, user_id: str, *, by: str | None = None
    ) -> None:
        """End the membership, if there is one. *by* as in `put_member`. Raises NotFound and Forbidden."""
        remove = partial(
            members.leave, pid, room_id, user_id, hide_private=False, removed=True, by=by
        )
        await self._database.write(
            partial(room_news.told, pid, remove),
            lambda happened: self._publish_departure(
                happened, user_id, "left" if by == user_id else "removed"
            ),
        )

    # messages

    async def post(  # noqa: PLR0913 - one argument a field of the message
        self,
        pid: str,
        room_id: str,
        user_id: str,
        content: str,
        *,
        client_msg_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        more: messages.More | None = None,
        hide_private: bool = False,
        idempotency: IdempotencyKey | None = None,
    ) -> Message:
        """Post a message. A repeated *client_msg_id* of the user returns the first message.

        *more* is None for a plain message. Raises NotFound `message_not_found` for one that cannot be answered,
        BadInput for mentions of users who are no members. Raises Forbidden `not_a_member` or `user_suspended`. Raises NotFound if there is no room, or,
        with *hide_private* (the user posts, not the API key), instead of `not_a_member` of a private room.
        """
        draft = messages.Draft(user_id, content, client_msg_id, metadata or {}, more)
        shortcut = partial(messages.post_shortcut, pid, room_id, draft, idempotency)
        message, _ = await self._database.write(
            partial(messages.post, pid, room_id, draft, hide_private, idempotency),
            self._publish_second,
            shortcut=shortcut if more is None else None,
        )
        return message

    async def messages_page(
        self, pid: str, room_id: str, *, page: int = 1, limit: int = 50, from_seq: int = 1
    ) -> Page:
        """A page of the messages from *from_seq* on, newest first."""
        return await self._database.read(
            partial(messages.page, pid, room_id, page, limit, from_seq)
        )

    async def messages_between(
        self,
        pid: str,
        room_id: str,
        *,
        before: int | None = None,
        after: int | None = None,
        limit: int = 50,
        from_seq: int = 1,
    ) -> Page:
        """Messages from *from_seq* on, next to a `seq`: newest first if *before* it, oldest first if *after* it."""
        return await self._database.read(
            partial(messages.between, pid, room_id, before, after, limit, from_seq)
        )

    async def message(
        self, pid: str, room_id: str, message_id: str, *, from_seq: int = 1
    ) -> Message:
        """A message from *from_seq* on. Raises NotFound."""
        return await self._database.read(partial(lookups.one, pid, room_id, message_id, from_seq))

    async def messages_by_id(
        self, pid: str, room_id: str, ids: Sequence[str], *, from_seq: int = 1
    ) -> list[Message]:
        """Those of the room's messages with these ids, at most 50, by `seq`."""
        return await self._database.read(partial(lookups.some, pid, room_id, ids, from_seq))

    async def messages_around(
        self, pid: str, room_id: str, seq: int, *, limit: int = 50, from_seq: int = 1
    ) -> Page:
        """Messages with *seq* in their middle, oldest first. Raises NotFound."""
        return await self._database.read(
            partial(lookups.around, pid, room_id, seq, limit, from_seq)
        )

    async def missed(
        self, pid: str, room_id: str, since_seq: int, limit: int = 200
    ) -> list[Message]:
        """The first *limit* messages after *since_seq*, oldest first. Empty if there is no room."""
        return await self._database.read(partial(messages.after, pid, room_id, since_seq, limit))

    async def changes(
        self,
        pid: str,
        room_id: str,
        since_rev: int,
        *,
        seen: deltas.Seen = deltas.Seen(),  # noqa: B008 - a value
        limit: int = 50,
    ) -> Changes:
        """The first *limit* changes after *since_rev* for a client that has what is *seen*. Raises NotFound."""
        return await self._database.read(partial(deltas.page, pid, room_id, since_rev, seen, limit))

    async def delta(self, pid: str, room_id: str, reader: deltas.Reader) -> Delta:
        """What *reader* lacks of the room. Raises NotFound, also if they are no member."""
        return await self._database.read(partial(deltas.delta, pid, room_id, reader, self.epoch))

    async def delta_of_member(
        self, pid: str, room_id: str, reader: deltas.Reader
    ) -> deltas.OfMember | None:
        """As `delta`, with the member's name; None if *reader* is no member of such a room."""
        return await self._database.read(
            partial(deltas.of_member, pid, room_id, reader, self.epoch)
        )

    async def lost_changes(self, pid: str, room_id: str, rev: int, limit: int) -> deltas.Lost:
        """The first *limit* changes after *rev*, for a node that has not heard of them. Raises NotFound."""
        return await self._database.read(partial(deltas.after, pid, room_id, rev, limit))

    async def edit(  # noqa: PLR0913 - likewise
        self,
        pid: str,
        room_id: str,
        message_id: str,
        content: str | None = None,
        *,
        metadata: dict[str, Any] | None = None,
        mentions: Sequence[str] | None = None,
        if_rev: int | None = None,
        by: str | None,
    ) -> Message:
        """Replace content, metadata, mentions or some of them. *by* is the user who edits (the author), None for the API key.

        Raises NotFound, Forbidden `not_the_author`, Conflict `message_deleted` or `not_editable`; Changed if its rev is
        not *if_rev*; BadInput for new mentions of users who are no members.
        """

        def publish(edited: messages.Edited) -> None:
            self._publish(events.message_edited(pid, edited.message, by))
            for user_id in edited.named_otherwise:
                self._publish_mine(pid, user_id, [room_id])

        edit = messages.Edit(content, metadata, mentions, if_rev)
        edited = await self._database.write(
            partial(messages.edit, pid, room_id, message_id, edit, by), publish
        )
        return edited.message

    async def delete_message(
        self, pid: str, room_id: str, message_id: str, *, by: str | None, purge: bool = False
    ) -> None:
        """Clear the message; it keeps its `seq`. *by* as in `edit`. A second call changes nothing.

        With *purge* its text is removed from stored answers, too.
        """
        await self._database.write(
            partial(messages.delete, pid, room_id, message_id, by, purge=purge), self._publish_all
        )

    async def mentions(
        self, pid: str, user_id: str, *, cursor: str | None = None, limit: int = 50
    ) -> CursorPage:
        """The messages that name the user, newest first. Raises NotFound, or BadInput for a foreign cursor."""
        return await self._database.read(partial(mentions.page, pid, user_id, cursor, limit))

    # reactions and pins

    async def react(
        self, pid: str, room_id: str, message_id: str, emoji: str, actor: Actor
    ) -> list[Reaction]:
        """React to a message in the name of a user. Returns all its reactions; a second time changes nothing.

        Raises NotFound, Forbidden, Conflict `too_many_reactions` or `message_deleted`.
        """
        found, _ = await self._database.write(
            partial(reactions.add, pid, room_id, message_id, emoji, actor), self._publish_second
        )
        return found

    async def unreact(
        self, pid: str, room_id: str, message_id: str, emoji: str, actor: Actor
    ) -> list[Reaction]:
        """Take a user's reaction back, if there is one. Returns what is left. Raises NotFound and Forbidden."""
        found, _ = await self._database.write(
            partial(reactions.remove, pid, room_id, message_id, emoji, actor), self._publish_second
        )
        return found

    async def reactions(
        self,
        pid: str,
        room_id: str,
        message_id: str,
        wanted: Wanted,
        *,
        from_seq: int = 1,
    ) -> CursorPage:
        """Who reacted to a message from *from_seq* on. Raises NotFound and BadInput."""
        return await self._database.read(
            partial(reactions.page, pid, room_id, message_id, wanted, from_seq)
        )

    async def own_reactions(self, pid: str, user_id: str, found: Sequence[Message]) -> OwnReactions:
        """The user's reactions, by message id, to those of these messages that do not show all their users."""
        if not any(map(reactions.is_crowded, found)):
            return {}
        return await self._database.read(partial(reactions.own, pid, user_id, found))

    async def pin(self, pid: str, room_id: str, message_id: str, actor: Actor) -> Message:
        """Pin a message. Raises NotFound, Forbidden, Conflict `too_many_pins` or `message_deleted`."""
        pin = partial(pins.pin, pid, room_id, message_id, actor)
        message, _ = await self._database.write(
            partial(room_news.told_with, pid, pin), self._publish_others
        )
        return message

    async def unpin(self, pid: str, room_id: str, message_id: str, actor: Actor) -> Message:
        """End the pin of a message, if there is one. Raises NotFound and Forbidden."""
        message, _ = await self._database.write(
            partial(pins.unpin, pid, room_id, message_id, actor), self._publish_second
        )
        return message

    async def pins(self, pid: str, room_id: str, *, from_seq: int = 1) -> list[Message]:
        """The pinned messages from *from_seq* on, newest pin first. Raises NotFound."""
        return await self._database.read(partial(pins.listed, pid, room_id, from_seq))

    # all rooms at once

    async def sync(self, pid: str, user_id: str, query: syncs.SyncQuery) -> Sync:
        """What the user's client lacks of all its rooms, page by page. Raises NotFound and BadInput."""
        return await self._database.read(
            partial(syncs.sync, pid, user_id, query, self.epoch), slow=True
        )

    # all rooms of a user, for the sockets that watch them

    async def watched_rooms(self, pid: str, user_id: str, limit: int) -> list[watched.WatchedRoom]:
        """The *limit* rooms of the user with the newest activity."""
        return await self._database.read(partial(watched.rooms_of, pid, user_id, limit))

    async def activities(
        self, pid: str, user_ids: Mapping[str, Sequence[str]]
    ) -> dict[str, watched.Activity]:
        """The activity in each of these rooms, with the sides of some users; without rooms that are deleted."""
        return await self._database.read(partial(watched.activities, pid, user_ids))

    async def room_added(self, pid: str, user_id: str, room_id: str, newest: int) -> Delta | None:
        """The room for a client that does not have it; None if the user is no member."""
        return await self._database.read(
            partial(syncs.added, pid, user_id, room_id, newest, self.epoch)
        )

    # a member's own side

    async def mine(self, pid: str, room_id: str, user_id: str) -> Mine:
        """The member's side of the room. Raises NotFound, also for a user who is no member."""
        return await self._database.read(partial(mine.get, pid, room_id, user_id))

    async def from_seq(self, pid: str, room_id: str, user_id: str) -> int | None:
        """The first message that the member sees; None if the user is no member."""
        member = await self._database.read(partial(mine.role_and_from_seq, pid, room_id, user_id))
        return None if member is None else member[1]

    async def update_mine(self, pid: str, room_id: str, user_id: str, changes: MineChanges) -> Mine:
        """Change the member's side of the room. Raises NotFound, also for a user who is no member."""
        hides = changes.clear_history

        def publish(result: tuple[Mine, list[str]]) -> None:
            side, room_ids = result
            self._publish_mine(pid, user_id, room_ids, side.from_seq if hides else None)

        side, _ = await self._database.write(
            partial(mine.update, pid, room_id, user_id, changes), publish
        )
        return side

    async def changed_mine(
        self, pid: str, user_id: str, room_ids: Sequence[str]
    ) -> tuple[dict[str, Mine], Totals]:
        """The user's side of those of these rooms that are theirs, and their totals. Raises NotFound."""
        return await self._database.read(
            partial(mine.of_rooms, pid, user_id, room_ids), slow=self._counts_slowly(pid, user_id)
        )

    async def mark_read(
        self, pid: str, room_id: str, user_id: str, seq: int, *, hide_private: bool = False
    ) -> ReadMark:
        """Move the member's read mark forward to *seq*, at most to the last message. It never moves back."""
        marked: Marked[ReadMark] = await self._database.write(
            partial(mine.mark_read, pid, room_id, user_id, seq, hide_private),
            partial(self._publish_marked, pid, user_id),
        )
        return marked.answer

    async def mark_delivered(
        self, pid: str, room_id: str, user_id: str, seq: int, *, hide_private: bool = False
    ) -> int:
        """As `mark_read`, for messages that have reached a device. Returns the mark."""
        marked: Marked[int] = await self._database.write(
            partial(mine.mark_delivered, pid, room_id, user_id, seq, hide_private),
            partial(self._publish_marked, pid, user_id),
        )
        return marked.answer

    async def mark_rooms_read(self, pid: str, user_id: str, marks: dict[str, int]) -> Totals:
        """Move the read marks of these rooms. Raises NotFound, and moves none, if one is not the user's."""
        await self._database.write(
            partial(mine.mark_rooms_read, pid, user_id, marks),
            partial(self._publish_marked, pid, user_id),
        )
        return await self.totals(pid, user_id)

    async def mark_all_read(self, pid: str, user_id: str) -> Totals:
        """Mark everything in all rooms of the user as read, some rooms at a time. Raises NotFound."""
        after_room: str | None = ""
        while after_room is not None:
            marked = await self._database.write(
                partial(mine.mark_next_rooms_read, pid, user_id, after_room),
                partial(self._publish_marked, pid, user_id),
            )
            after_room = marked.answer
        return await self.totals(pid, user_id)

    async def message_receipts(
        self, pid: str, room_id: str, message_id: str, *, reader_id: str | None, from_seq: int = 1
    ) -> MessageReceipts:
        """Who has read a message, and whom it has reached. *reader_id*: None for the API key.

        Raises NotFound, and Forbidden `receipts_off` in a large room, or for a reader who shows no receipts.
        """
        return await self._database.read(
            partial(receipts.of_message, pid, room_id, message_id, reader_id, from_seq)
        )

    async def receipts(self, pid: str, room_id: str) -> list[Receipt]:
        """The receipts of a small room's members who show them."""
        return await self._database.read(partial(receipts.of_room, pid, room_id))

    # presence

    async def seen(
        self, pid: str, user_ids: Sequence[str], reader_id: str | None
    ) -> list[presence.Seen]:
        """Those of the users that there are; with *reader_id* themselves, and users who are in a room with them."""
        slow = reader_id is not None
        return await self._database.read(
            partial(presence.seen, pid, user_ids, reader_id), slow=slow
        )

    async def note_seen(self, pid: str, times: Mapping[str, str]) -> None:
        """Write when these users were last seen, unless they were seen later."""
        await self._database.write(partial(presence.note_seen, pid, times))

    # signals

    async def signal(
        self, pid: str, room_id: str, signal: Signal, *, sent_by: str | None = None
    ) -> None:
        """Tell the room's sockets, but the one that sent it, if its user may do so.

        Raises NotFound, Forbidden `read_only`, `blocked`, or `owner_only` in a large room.
        """
        if signal.user_id is not None:
            await self._database.read(partial(signals.require, pid, room_id, signal.user_id))
        self._publish(events.signalled(pid, room_id, signal, sent_by))

    async def signal_room(self, pid: str, room_id: str, name: str, data: Any) -> None:
        """Tell all sockets of the room. Raises NotFound."""
        await self.get_room(pid, room_id)
        await self.signal(pid, room_id, Signal(room_id, None, None, name, data, timestamp()))

    async def signal_user(self, pid: str, user_id: str, name: str, data: Any) -> None:
        """Tell all sockets of the user. Raises NotFound."""
        await self.get_user(pid, user_id)
        signal = Signal(None, None, None, name, data, timestamp())
        self._publish(UserSignalled(pid, user_id, msgspec.json.encode(signal)))

    async def totals(self, pid: str, user_id: str) -> Totals:
        """What is unread in all rooms of the user. Raises NotFound."""
        return await self._database.read(
            partial(mine.totals, pid, user_id), slow=self._counts_slowly(pid, user_id)
        )

    def _counts_slowly(self, pid: str, user_id: str | None) -> bool:
        """Whether it takes long to work out what is unread in many rooms of the user."""
        if user_id is None:
            return False
        return bool(self._database.read_now(partial(blocks.are_many, pid, user_id)))

    def _publish_mine(
        self, pid: str, user_id: str, room_ids: list[str], from_seq: int | None = None
    ) -> None:
        if room_ids:
            self._publish(MineChanged(pid, user_id, room_ids, from_seq))

    def _publish_reload(self, pid: str, user_id: str) -> Callable[[int | None], None]:
        """Publishes, if something was changed, that the user's own side of all rooms is to be read anew."""

        def publish(version: int | None) -> None:
            if version is not None:
                self._publish(MineChanged(pid, user_id, [], version=version))

        return publish

    def _publish_marked(self, pid: str, user_id: str, marked: Marked[Any]) -> None:
        self._publish_mine(pid, user_id, marked.room_ids)
        if marked.receipts:
            self._publish(ReceiptsMoved(pid, marked.receipts))

    def _publish_all(self, happened: Sequence[Happened]) -> None:
        for event in happened:
            self._publish(event)

    def _publish_others(self, result: tuple[Any, Sequence[Happened]]) -> None:
        self._publish_all(result[1])

    def _publish_second(self, result: tuple[Any, Event | None]) -> None:
        if result[1] is not None:
            self._publish(result[1])
