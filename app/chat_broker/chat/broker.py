"""The rules: who may do what in rooms, in whose name. Knows no web framework and no database."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, get_args

import chat_broker_sdk
from chat_broker.chat.authors import Authors
from chat_broker.chat.direct_rooms import DirectRooms
from chat_broker.chat.features import Features
from chat_broker.chat.identities import EXTERNAL, Identities, naming
from chat_broker.chat.ids import is_id
from chat_broker.chat.memberships import Membership, Memberships
from chat_broker.chat.message_cache import SaidMessages, SaidPage
from chat_broker.chat.own_rooms import OwnRooms
from chat_broker.chat.people import People
from chat_broker.chat.policy import Action, Decision, Facts, Role, decide
from chat_broker.chat.presence import WhoIsThere
from chat_broker.chat.principal import Principal
from chat_broker.chat.reactions import Reactions
from chat_broker.chat.room_names import RoomNames, is_room_name
from chat_broker.chat.tokens import ChatTokens
from chat_broker.errors import (
    BrokerError,
    NotFound,
    Refused,
    everybody_by_moderators,
    from_chat,
    message_not_found,
    not_mentionable,
    owner_only,
    read_only,
    room_not_found,
    user_not_found,
)
from chat_broker_sdk import (
    AddedMembers,
    AsyncChatClient,
    ChatUser,
    Member,
    MemberPage,
    Message,
    Page,
    ReadMark,
    Room,
)

LOOKUPS_AT_ONCE = 8
"""Users that one request looks up at the same time."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list: a page by number, *limit* messages next to or around a `seq`, or some by id."""

    page: int | None = None
    limit: int | None = None
    before: int | None = None
    after: int | None = None
    around: int | None = None
    ids: tuple[str, ...] | None = None


MOST_AT_ONCE = 100
"""Users whom one request may name."""


@dataclass(frozen=True, slots=True)
class SomeMembers:
    """Which members: some by id, those with a role or a text in their name, or what follows a cursor."""

    page: int | None = None
    limit: int | None = None
    ids: tuple[str, ...] | None = None
    role: str | None = None
    q: str | None = None
    cursor: str | None = None


class NewMessage(Protocol):
    """What a frontend may say of a message to post."""

    @property
    def content(self) -> str: ...
    @property
    def client_msg_id(self) -> str | None: ...
    @property
    def metadata(self) -> dict[str, Any] | None: ...
    @property
    def reply_to(self) -> str | None: ...
    @property
    def mentions(self) -> Sequence[str] | None: ...
    @property
    def mention_room(self) -> bool | None: ...
    @property
    def silent(self) -> bool | None: ...


class Broker:
    """What an app user may have done in their name. One per process; safe for many requests at once.

    Every method takes the principal first and acts as no other user. Raises BrokerError, or a ChatError
    of the SDK, which `errors.from_chat` translates.
    """

    def __init__(
        self,
        chat: AsyncChatClient,
        identities: Identities,
        memberships: Memberships,
        tokens: ChatTokens,
        features: Features,
        *,
        exposed_fields: Collection[str] = (),
    ) -> None:
        """*exposed_fields*: what members see of each other's chat users beyond names."""
        self.tokens = tokens
        self._chat = chat
        self._identities = identities
        self._memberships = memberships
        self._authors = Authors(chat)
        self._messages = SaidMessages()
        self._exposed = frozenset(exposed_fields)
        self.features = features
        self._names = RoomNames(chat)
        self.people = People(chat, identities, features)
        self.reactions = Reactions(chat, features, self._may)
        self.there = WhoIsThere(chat, identities, features, self._may)
        self.direct = DirectRooms(chat, identities, features)
        self.own = OwnRooms(chat, identities, self.features, self._may, memberships.changed)

    def cached_user_id(self, me: Principal) -> str | None:
        """The id of the principal's chat user, if this process knows it; for logs."""
        return self._identities.cached_id(me)

    async def whoami(self, me: Principal) -> ChatUser:
        """The caller's chat user as they are now, with the name and e-mail address of their credential."""
        return await self._identities.current(me)

    async def room_id(self, me: Principal, name: str) -> str:
        """The id of the room that the caller names by it, or by `external:` and the app's own.

        A name that no room has is returned as it is, and treated as an id that no room has: a stranger learns nothing.
        """
        await self._identities.active_id(me)
        if not is_room_name(name):
            return name
        await self.features.require("external_rooms")
        return await self._names.id_of(name)

    # -- rooms ----------------------------------------------------------------------------------

    async def create_room(
        self,
        me: Principal,
        fields: dict[str, Any],
        *,
        member_ids: Sequence[str] = (),
        idempotency_key: str | None = None,
    ) -> Room:
        """A new room with these *fields* that the caller owns. Raises NotFound `user_not_found` for a stranger."""
        user_id = await self._identities.active_id(me)
        members = await self._identities.resolve_all(member_ids, "member_ids")
        with naming(members, "member_ids"):
            return await self._chat.rooms.create(
                created_by=user_id,
                member_ids=list(members) or None,
                idempotency_key=_keyed(idempotency_key, user_id, "rooms"),
                **fields,
            )

    async def room(self, me: Principal, room_id: str) -> Room:
        """One room of the caller's."""
        await self._may(me, Action.READ, room_id)
        return await self._chat.rooms.get(room_id)

    async def update_room(self, me: Principal, room_id: str, changes: dict[str, Any]) -> Room:
        """Change a room the caller owns: `name`, `description`, `private`, `metadata`, some `settings`."""
        user_id = await self._may(me, Action.UPDATE_ROOM, room_id)
        if "settings" in changes:
            await self.features.require("roles")
        if (by := await self._named(user_id)) is not None:
            changes = {**changes, "by": by}
        return await self._chat.rooms.update(room_id, **changes)

    async def delete_room(self, me: Principal, room_id: str) -> None:
        """Delete a room the caller owns."""
        await self._may(me, Action.DELETE_ROOM, room_id)
        try:
            await self._chat.rooms.delete(room_id)
        finally:
            self._names.forget()
            await self._memberships.changed(room_id)

    async def join(self, me: Principal, room_id: str) -> Member:
        """Make the caller a member of an open room, or say that they are one."""
        user_id = await self._identities.active_id(me)
        if not is_id(room_id):
            raise room_not_found()
        member = await self._memberships.look(room_id, user_id)
        if member is not None:
            return member
        room = await _or_no_room(self._chat.rooms.get(room_id))
        _permit(decide(Action.JOIN, Facts(private=room.private)))
        try:
            return await _or_no_room(self._chat.rooms.join(room_id, user_id=user_id))
        finally:
            await self._memberships.changed(room_id)

    async def leave(self, me: Principal, room_id: str) -> None:
        """End the caller's membership."""
        user_id = await self._may(me, Action.LEAVE, room_id)
        try:
            await self._chat.rooms.leave(room_id, user_id=user_id)
        finally:
            await self._memberships.changed(room_id)

    # -- members --------------------------------------------------------------------------------

    async def members(self, me: Principal, room_id: str, window: Window) -> Page[Member]:
        """Who is in a room of the caller's."""
        await self._may(me, Action.READ, room_id)
        return await self._chat.rooms.members(room_id, page=window.page, limit=window.limit)

    async def some_members(self, me: Principal, room_id: str, wanted: SomeMembers) -> MemberPage:
        """Some of those who are in a room of the caller's. Users who are not there are left out."""
        await self._may(me, Action.READ, room_id)
        ids: list[str] | None = None
        if wanted.ids is not None:
            ids = await self._identities.known_among(wanted.ids)
            if not ids:
                return MemberPage(items=(), page=1, limit=MOST_AT_ONCE, total=0, total_pages=0)
        return await self._chat.rooms.members(
            room_id,
            page=wanted.page,
            limit=wanted.limit,
            ids=ids,
            role=wanted.role,
            q=wanted.q,
            cursor=wanted.cursor,
        )

    async def exposed(self, members: Sequence[Member]) -> dict[str, dict[str, Any]]:
        """What the operator lets members see of each other beyond names, by chat user id."""
        if not self._exposed:
            return {}
        users = await self._identities.profiles([member.user_id for member in members])
        return {
            user.id: {
                **{
                    name: getattr(user, name) for name in self._exposed - {"metadata", "avatar_url"}
                },
                **({"metadata": user.metadata or {}} if "metadata" in self._exposed else {}),
            }
            for user in users
        }

    async def add_member(self, me: Principal, room_id: str, who: str) -> Member:
        """Add a user to a room that the caller owns or moderates. *who*: a chat user id or `external:<id>`."""
        user_id = await self._may_change_members(me, room_id, Action.ADD_MEMBER)
        other = await self._identities.resolve(who)
        by = await self._named(user_id)
        try:
            return await self._chat.rooms.put_member(room_id, other, by=by)
        finally:
            await self._memberships.changed(room_id)

    async def add_members(
        self,
        me: Principal,
        room_id: str,
        users: Sequence[str],
        *,
        idempotency_key: str | None = None,
    ) -> AddedMembers:
        """Add all of these users to a room that the caller owns or moderates, or none. *users*: as in `add_member`."""
        user_id = await self._may_change_members(me, room_id, Action.ADD_MEMBER)
        others = await self._identities.resolve_all(users, "users")
        by = await self._named(user_id)
        try:
            with naming(others, "users"):
                return await self._chat.rooms.add_members(
                    room_id,
                    list(others),
                    by=by,
                    idempotency_key=_keyed(idempotency_key, user_id, f"{room_id}/members"),
                )
        finally:
            await self._memberships.changed(room_id)

    async def remove_member(self, me: Principal, room_id: str, who: str) -> None:
        """Remove a member of a lower rank from a room that the caller moderates, any from one they own, or the caller."""
        user_id, role = await self._role(me, room_id)
        own = who in (user_id, EXTERNAL + me.external_id)
        decision = decide(Action.REMOVE_MEMBER, Facts(role=role, own=own))
        if not decision.allowed:
            await self.direct.refuse(room_id)
        _permit(decision)
        other = user_id if own else await self._identities.resolve(who)
        by = await self._named(user_id)
        try:
            await self._chat.rooms.remove_member(room_id, other, by=by)
        finally:
            await self._memberships.changed(room_id)

    async def set_role(self, me: Principal, room_id: str, who: str, role: Role) -> Member:
        """Give a user a role in a room that the caller owns; who is no member becomes one."""
        user_id = await self._may_change_members(me, room_id, Action.SET_ROLE)
        await self.features.require("roles")
        other = await self._resolved(me, user_id, who)
        try:
            return await self._chat.rooms.set_role(room_id, other, role, by=user_id)
        finally:
            await self._memberships.changed(room_id)

    async def end_role(self, me: Principal, room_id: str, who: str, role: Role) -> Member:
        """Make a member with this *role* an ordinary one, in a room that the caller owns. Who has another role keeps it."""
        user_id = await self._may_change_members(me, room_id, Action.SET_ROLE)
        await self.features.require("roles")
        other = await self._resolved(me, user_id, who)
        member = await self._memberships.look(room_id, other)
        if member is None:
            raise user_not_found()
        if member.role != role:
            return member
        try:
            return await self._chat.rooms.set_role(room_id, other, "member", by=user_id)
        finally:
            await self._memberships.changed(room_id)

    async def _resolved(self, me: Principal, user_id: str, who: str) -> str:
        own = who in (user_id, EXTERNAL + me.external_id)
        return user_id if own else await self._identities.resolve(who)

    async def _named(self, user_id: str) -> str | None:
        """The user to name as who does it; None for a Chat API that does not know roles."""
        return user_id if await self._chat.supports("roles") else None

    # -- messages -------------------------------------------------------------------------------

    async def messages(self, me: Principal, room_id: str, window: Window) -> SaidPage:
        """What was said in a room of the caller's."""
        user_id, member = await self._member(me, room_id)
        if window.around is not None or window.ids is not None:
            await self.features.require("changes")
        page = await self._chat.messages.list(
            room_id,
            page=window.page,
            limit=window.limit,
            before=window.before,
            after=window.after,
            around=window.around,
            ids=window.ids,
            from_seq=member.from_seq,
            into=bytes,
        )
        said = self._messages.page(page)
        self._authors.remember_page(room_id, said.authors)
        return await self.reactions.for_reader(user_id, room_id, said) if said.crowded else said

    async def message(self, me: Principal, room_id: str, message_id: str) -> Message:
        """One message in a room of the caller's."""
        _, member = await self._member(me, room_id)
        await self.features.require("changes")
        if not is_id(message_id):
            raise message_not_found()
        message = await self._chat.messages.get(room_id, message_id, from_seq=member.from_seq)
        self._authors.remember(room_id, (message,))
        return message

    async def post_message(
        self, me: Principal, room_id: str, new: NewMessage, *, idempotency_key: str | None = None
    ) -> Message:
        """Post the *new* message in the room, as the caller."""
        user_id = await self._may(me, Action.POST, room_id)
        more = await self._more(new) if _has_more(new) else {}
        try:
            message = await self._chat.messages.create(
                room_id,
                content=new.content,
                user_id=user_id,
                client_msg_id=new.client_msg_id,
                metadata=new.metadata,
                idempotency_key=_keyed(idempotency_key, user_id, room_id),
                **more,
            )
        except chat_broker_sdk.AuthenticationError as error:
            if new.mention_room and error.code == "owner_only":
                raise everybody_by_moderators() from None
            raise
        self._authors.remember(room_id, (message,))
        return message

    async def _more(self, new: NewMessage) -> dict[str, Any]:
        """What the *new* message has that most have not, as arguments of the SDK's `create`."""
        if new.reply_to is not None:
            await self.features.require("replies")
            if not is_id(new.reply_to):
                raise message_not_found()
        if new.mentions or new.mention_room:
            await self.features.require("mentions")
        return {
            "reply_to": new.reply_to,
            "mentions": await self._mentioned(new.mentions or ()),
            "mention_room": bool(new.mention_room),
            "silent": bool(new.silent),
        }

    async def _mentioned(self, names: Sequence[str]) -> list[str]:
        """The ids of the users whom a caller mentions. Raises BadInput about `mentions[n]` for those who are none."""
        turn = asyncio.Semaphore(LOOKUPS_AT_ONCE)

        async def mentioned(name: str) -> str | None:
            async with turn:
                try:
                    return await self._identities.resolve(name)
                except NotFound:
                    return None

        found = await asyncio.gather(*(mentioned(name) for name in names))
        unknown = [f"mentions[{place}]" for place, user_id in enumerate(found) if user_id is None]
        if unknown:
            raise not_mentionable(unknown)
        return [user_id for user_id in found if user_id is not None]

    async def edit_message(
        self, me: Principal, room_id: str, message_id: str, changes: Mapping[str, Any]
    ) -> Message:
        """Change a message of the caller's: `content`, `metadata`, `mentions`; with `if_rev`, only if that is its `rev`."""
        user_id, role = await self._role(me, room_id)
        changed = dict(changes)
        if changed.get("if_rev") is not None:
            await self.features.require("changes")
        if "mentions" in changed:
            await self.features.require("mentions")
            changed["mentions"] = await self._mentioned(changed["mentions"] or ())
        try:
            if (by := await self._named_for(user_id, message_id)) is not None:
                return await self._chat.messages.update(room_id, message_id, user_id=by, **changed)
            chat, own = await self._in_whose_name(user_id, role, room_id, message_id)
            _permit(decide(Action.EDIT_MESSAGE, Facts(role=role, own=own)))
            return await chat.messages.update(room_id, message_id, **changed)
        except chat_broker_sdk.AuthenticationError as error:
            raise _not_the_author(error) from None

    async def delete_message(self, me: Principal, room_id: str, message_id: str) -> None:
        """Empty a message of the caller's, any in a room they own, any but an owner's in one they moderate."""
        user_id, role = await self._role(me, room_id)
        if (by := await self._named_for(user_id, message_id)) is not None:
            try:
                await self._chat.messages.delete(room_id, message_id, user_id=by)
            except chat_broker_sdk.AuthenticationError as error:
                raise _not_the_author(error) from None
            return
        if role == "owner":
            _permit(decide(Action.DELETE_MESSAGE, Facts(role=role)))
            if not is_id(message_id):
                raise message_not_found()
            await self._chat.messages.delete(room_id, message_id)
            return
        chat, own = await self._in_whose_name(user_id, role, room_id, message_id)
        _permit(decide(Action.DELETE_MESSAGE, Facts(role=role, own=own)))
        try:
            await chat.messages.delete(room_id, message_id)
        except chat_broker_sdk.AuthenticationError as error:
            raise _not_the_author(error) from None

    async def _named_for(self, user_id: str, message_id: str) -> str | None:
        """`_named`, for a change of this message: the Chat API judges by role and author, since both may change."""
        if not is_id(message_id):
            raise message_not_found()
        return await self._named(user_id)

    async def _in_whose_name(
        self, user_id: str, role: Role, room_id: str, message_id: str
    ) -> tuple[AsyncChatClient, bool | None]:
        """A client to touch the message with, and whether the caller wrote it (None: the Chat API judges).

        With the key every user's message could be changed, so the author must be known. Of a message that
        has not gone by here the Chat API knows: a member acts with a token of their own. An owner's
        token would do more than an owner may, so for them the author is looked up.
        """
        if not is_id(message_id):
            raise message_not_found()
        author = self._authors.known(room_id, message_id)
        if author is None and role == "owner":
            author = await self._authors.look_up(room_id, message_id)
        if author is not None:
            return self._chat, author == user_id
        return await self.tokens.client_of(user_id), None

    async def mark_read(self, me: Principal, room_id: str, seq: int) -> ReadMark:
        """Move the caller's read mark up to *seq*."""
        user_id = await self._may(me, Action.READ, room_id)
        return await self._chat.rooms.mark_read(room_id, seq=seq, user_id=user_id)

    # -- who may --------------------------------------------------------------------------------

    async def _may(self, me: Principal, action: Action, room_id: str) -> str:
        """The caller's chat user id, if they may; raises what the refusal answers."""
        user_id, role = await self._role(me, room_id)
        if (action, role) not in _ALLOWED:
            _permit(decide(action, Facts(role=role)))
        return user_id

    async def _may_change_members(self, me: Principal, room_id: str, action: Action) -> str:
        """As `_may`. In a direct room no member may, which is another answer than that others may."""
        user_id, role = await self._role(me, room_id)
        decision = decide(action, Facts(role=role))
        if not decision.allowed:
            await self.direct.refuse(room_id)
        _permit(decision)
        return user_id

    async def _role(self, me: Principal, room_id: str) -> tuple[str, Role]:
        """The caller's chat user id and role; a stranger gets the answer of a room that is not there."""
        user_id, member = await self._member(me, room_id)
        return user_id, member.role

    async def _member(self, me: Principal, room_id: str) -> tuple[str, Membership]:
        """`_role`, with all that is remembered of the membership. Who is a member may read."""
        user_id = await self._identities.active_id(me)
        member = await self._memberships.of(room_id, user_id)
        if member is None:
            raise room_not_found()
        return user_id, member


_REFUSALS: dict[str, Callable[[], BrokerError]] = {
    "room_not_found": room_not_found,
    "owner_only": owner_only,
    "author_only": lambda: Refused("author_only", "Only the message's author may do this."),
    "read_only": read_only,
}


def _has_more(new: NewMessage) -> bool:
    return bool(new.reply_to is not None or new.mentions or new.mention_room or new.silent)


# What is asked all day, decided beforehand.
_ALLOWED: frozenset[tuple[Action, Role]] = frozenset(
    (action, role)
    for action in (Action.READ, Action.POST)
    for role in get_args(Role)
    if decide(action, Facts(role=role)).allowed
)


def _permit(decision: Decision) -> None:
    if decision.allowed:
        return
    refusal = _REFUSALS[decision.refusal or "room_not_found"]
    raise refusal()


def _not_the_author(error: chat_broker_sdk.AuthenticationError) -> BrokerError:
    if error.status == 403 and error.code in {"not_the_author", "forbidden"}:
        return _REFUSALS["author_only"]()
    return from_chat(error)


async def _or_no_room(call: Awaitable[T]) -> T:
    try:
        return await call
    except chat_broker_sdk.NotFoundError:
        raise room_not_found() from None


def _keyed(key: str | None, user_id: str, where: str) -> str | None:
    """The caller's Idempotency-Key as one of the project's: apart from everybody else's."""
    if key is None:
        return None
    text = f"{user_id}\0{where}\0{key}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
