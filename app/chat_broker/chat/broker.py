"""The rules: who becomes which chat user, and who may do what. Knows no web framework and no database."""

import hashlib
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

import chat_broker_sdk
from chat_broker.chat.bans import MintGuard
from chat_broker.chat.identities import EXTERNAL, People
from chat_broker.chat.ids import is_id
from chat_broker.chat.memberships import Memberships
from chat_broker.chat.message_cache import SaidMessages, SaidPage
from chat_broker.chat.policy import Action, Decision, Facts, Role, decide
from chat_broker.chat.ports import Links, RoomChanges
from chat_broker.chat.principal import Principal
from chat_broker.errors import (
    BrokerError,
    NotSignedIn,
    Refused,
    from_chat,
    message_not_found,
    no_chat_token,
    room_not_found,
    user_deleted,
)
from chat_broker.upstream.tokens import ChatToken, chat_token
from chat_broker_kit.bounded_cache import BoundedCache
from chat_broker_sdk import (
    AsyncChatClient,
    AuthInfo,
    ChatUser,
    Member,
    Message,
    Page,
    ReadMark,
    Room,
    Token,
)

T = TypeVar("T")
GenerateToken = Callable[[str, int], Awaitable[Token]]
"""Makes a chat token for a chat user, good for so many seconds."""
MintAtOnce = Callable[[str, int], ChatToken | None]
"""The same without waiting; None if that cannot be, or something is wrong."""

PAGES_SEARCHED = 500
"""How many pages of 200 are looked through for the author of a message that nobody here has seen."""
OWN_TOKEN_SECONDS = 60
"""Life of a token that never leaves the broker: for one call in a member's own name."""


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list: a page by number, or *limit* messages next to a cursor (a `seq`)."""

    page: int | None = None
    limit: int | None = None
    before: int | None = None
    after: int | None = None


class Broker:
    """What an app user may have done in their name. One per process; safe for many requests at once.

    Every method takes the principal first and acts for nobody else. Raises BrokerError, or a ChatError
    of the SDK, which `errors.from_chat` translates.
    """

    def __init__(
        self,
        chat: AsyncChatClient,
        links: Links,
        changes: RoomChanges,
        *,
        generate_token: GenerateToken,
        mint_at_once: MintAtOnce = lambda _user_id, _life: None,
        token_ttl: int,
        expose: Collection[str] = (),
        guard: MintGuard | None = None,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._chat = chat
        self._people = People(chat, links, clock)
        self._memberships = Memberships(chat, changes, clock)
        self._authors = Authors(chat)
        self._said = SaidMessages()
        self._token_ttl = token_ttl
        self._expose = frozenset(expose)
        self._guard = guard
        self._generate_token = generate_token
        self._make_at_once = mint_at_once
        self._now = now

    # -- tokens ---------------------------------------------------------------------------------

    def cached_user_id(self, me: Principal) -> str | None:
        """The id of the principal's chat user, if this process knows it; for logs."""
        return self._people.cached_id(me)

    async def mint(self, me: Principal, *, expires_in: int | None = None) -> ChatToken:
        """A chat token for the caller, new each time; creates their chat user on first sight.

        Lives at most as long as the operator allows, the caller asks for (*expires_in*), and the app's
        own credential does.
        """
        life = self._token_ttl if expires_in is None else min(expires_in, self._token_ttl)
        if me.expires_at is not None:
            life = min(life, me.expires_at - int(self._now()))
        if life < 1:
            raise NotSignedIn("invalid_credentials", "The credential of the app has expired.")
        made = self._mint_at_once(me, life)
        if made is not None:
            return made
        if self._guard is None:
            return await self._mint(me, life)
        return await self._guard.mint(me.external_id, lambda: self._mint(me, life))

    def _mint_at_once(self, me: Principal, life: int) -> ChatToken | None:
        """The token, if nobody need be asked, told or waited for to make it and to hand it out; None says nothing."""
        user_id = self._people.told_id(me)
        if user_id is None:
            return None
        if self._guard is not None and not self._guard.lets_through(me.external_id):
            return None
        return self._make_at_once(user_id, life)

    async def _mint(self, me: Principal, life: int) -> ChatToken:
        user_id = await self._people.current_id(me)
        if (made := self._make_at_once(user_id, life)) is not None:
            return made
        try:
            return chat_token(await self._generate_token(user_id, life))
        except chat_broker_sdk.NotFoundError:
            user_id = await self._people.find_again(me, instead_of=user_id)
        try:
            return chat_token(await self._generate_token(user_id, life))
        except chat_broker_sdk.NotFoundError:
            raise user_deleted() from None

    async def sign_out(self, me: Principal) -> None:
        """Make all chat tokens of the caller worthless and close their sockets."""
        if self._guard is not None:
            await self._guard.cut(me.external_id)
        user_id = await self._people.known_id(me)
        if user_id is None:
            return
        try:
            await self._chat.users.revoke_token(user_id)
        except chat_broker_sdk.NotFoundError:
            return

    async def whoami(self, me: Principal) -> ChatUser:
        """The caller's chat user."""
        return await self._people.current(me)

    async def verify(self, token: str) -> AuthInfo:
        """What the Chat API says of a chat token. Raises NotSignedIn with the Chat API's code."""
        try:
            return await self._chat.as_user(token).auth.verify()
        except chat_broker_sdk.ConfigurationError:
            pass  # nothing that could be a token, or be sent as one
        except chat_broker_sdk.AuthenticationError as error:
            if error.code in _DEAD_TOKENS:
                raise NotSignedIn(error.code, _DEAD_TOKENS[error.code]) from None
        raise no_chat_token()

    # -- rooms ----------------------------------------------------------------------------------

    async def joined_rooms(self, me: Principal, window: Window) -> Page[Room]:
        """The caller's rooms, each with `unread`."""
        user_id = await self._people.id_of(me)
        return await self._chat.rooms.list(member_id=user_id, page=window.page, limit=window.limit)

    async def open_rooms(self, me: Principal, window: Window) -> Page[Room]:
        """The rooms anybody may join."""
        await self._people.id_of(me)
        return await self._chat.rooms.list(private=False, page=window.page, limit=window.limit)

    async def create_room(
        self,
        me: Principal,
        *,
        name: str,
        description: str | None = None,
        private: bool | None = None,
        member_ids: Sequence[str] = (),
        metadata: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Room:
        """A new room that the caller owns. Raises NotFound `user_not_found` for a stranger in *member_ids*."""
        user_id = await self._people.id_of(me)
        members = [await self._people.named(one) for one in member_ids]
        return await self._chat.rooms.create(
            name=name,
            created_by=user_id,
            description=description,
            private=private,
            member_ids=list(dict.fromkeys(members)) or None,
            metadata=metadata,
            idempotency_key=_keyed(idempotency_key, user_id, "rooms"),
        )

    async def room(self, me: Principal, room_id: str) -> Room:
        """One room of the caller's."""
        await self._may(me, Action.READ, room_id)
        return await self._chat.rooms.get(room_id)

    async def update_room(self, me: Principal, room_id: str, changes: dict[str, Any]) -> Room:
        """Change a room the caller owns: `name`, `description`, `private`, `metadata`."""
        await self._may(me, Action.UPDATE_ROOM, room_id)
        return await self._chat.rooms.update(room_id, **changes)

    async def delete_room(self, me: Principal, room_id: str) -> None:
        """Delete a room the caller owns."""
        await self._may(me, Action.DELETE_ROOM, room_id)
        try:
            await self._chat.rooms.delete(room_id)
        finally:
            await self._memberships.changed(room_id)

    async def join(self, me: Principal, room_id: str) -> Member:
        """Make the caller a member of an open room, or say that they are one."""
        user_id = await self._people.id_of(me)
        _refuse_no_id(room_id)
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
        user_id, _ = await self._may(me, Action.LEAVE, room_id)
        try:
            await self._chat.rooms.leave(room_id, user_id=user_id)
        finally:
            await self._memberships.changed(room_id)

    # -- members --------------------------------------------------------------------------------

    async def members(self, me: Principal, room_id: str, window: Window) -> Page[Member]:
        """Who is in a room of the caller's."""
        await self._may(me, Action.READ, room_id)
        return await self._chat.rooms.members(room_id, page=window.page, limit=window.limit)

    async def exposed(self, members: Sequence[Member]) -> dict[str, dict[str, Any]]:
        """What the operator lets members see of each other beyond names, by chat user id."""
        if not self._expose:
            return {}
        users = await self._people.profiles([member.user_id for member in members])
        return {
            user.id: {
                "avatar_url": user.avatar_url,
                **{name: getattr(user, name) for name in self._expose if name != "metadata"},
                **({"metadata": user.metadata or {}} if "metadata" in self._expose else {}),
            }
            for user in users
        }

    async def add_member(self, me: Principal, room_id: str, who: str) -> Member:
        """Bring somebody into a room the caller owns. *who*: a chat user id or `external:<id>`."""
        await self._may(me, Action.ADD_MEMBER, room_id)
        other = await self._people.named(who)
        try:
            return await self._chat.rooms.put_member(room_id, other)
        finally:
            await self._memberships.changed(room_id)

    async def remove_member(self, me: Principal, room_id: str, who: str) -> None:
        """Take somebody out of a room the caller owns, or the caller out of any."""
        user_id, role = await self._role(me, room_id)
        own = who in (user_id, EXTERNAL + me.external_id)
        _permit(decide(Action.REMOVE_MEMBER, Facts(role=role, own=own)))
        other = user_id if own else await self._people.named(who)
        try:
            await self._chat.rooms.remove_member(room_id, other)
        finally:
            await self._memberships.changed(room_id)

    # -- messages -------------------------------------------------------------------------------

    async def messages(self, me: Principal, room_id: str, window: Window) -> SaidPage:
        """What was said in a room of the caller's."""
        if self._may_at_once(me, Action.READ, room_id) is None:
            await self._may(me, Action.READ, room_id)
        page = await self._chat.messages.list(
            room_id,
            page=window.page,
            limit=window.limit,
            before=window.before,
            after=window.after,
            into=bytes,
        )
        said = self._said.page(page)
        self._authors.wrote(room_id, said.authors)
        return said

    async def post_message(
        self,
        me: Principal,
        room_id: str,
        content: str,
        *,
        client_msg_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Message:
        """Say *content* in the room, as the caller."""
        user_id = self._may_at_once(me, Action.POST, room_id)
        if user_id is None:
            user_id, _ = await self._may(me, Action.POST, room_id)
        message = await self._chat.messages.create(
            room_id,
            content=content,
            user_id=user_id,
            client_msg_id=client_msg_id,
            metadata=metadata,
            idempotency_key=_keyed(idempotency_key, user_id, room_id),
        )
        self._authors.remember(room_id, (message,))
        return message

    async def edit_message(
        self, me: Principal, room_id: str, message_id: str, content: str
    ) -> Message:
        """Replace what a message of the caller's says."""
        user_id, role = await self._role(me, room_id)
        chat, own = await self._in_whose_name(user_id, role, room_id, message_id)
        _permit(decide(Action.EDIT_MESSAGE, Facts(role=role, own=own)))
        try:
            return await chat.messages.update(room_id, message_id, content=content)
        except chat_broker_sdk.AuthenticationError as error:
            raise _not_the_author(error) from None

    async def delete_message(self, me: Principal, room_id: str, message_id: str) -> None:
        """Empty a message of the caller's, or any in a room they own."""
        user_id, role = await self._role(me, room_id)
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

    async def _in_whose_name(
        self, user_id: str, role: Role, room_id: str, message_id: str
    ) -> tuple[AsyncChatClient, bool | None]:
        """A client to touch the message with, and whether the caller wrote it (None: the Chat API judges).

        With the key anybody's message could be changed, so the author must be known. Of a message that
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
        made = self._make_at_once(user_id, OWN_TOKEN_SECONDS)
        token = made or await self._generate_token(user_id, OWN_TOKEN_SECONDS)
        return self._chat.as_user(token.token), None

    async def mark_read(self, me: Principal, room_id: str, seq: int) -> ReadMark:
        """Move the caller's read mark up to *seq*."""
        user_id = self._may_at_once(me, Action.READ, room_id)
        if user_id is None:
            user_id, _ = await self._may(me, Action.READ, room_id)
        return await self._chat.rooms.mark_read(room_id, seq=seq, user_id=user_id)

    # -- who may --------------------------------------------------------------------------------

    def _may_at_once(self, me: Principal, action: Action, room_id: str) -> str | None:
        """The caller's chat user id, if all that `_may` asks is remembered, and they may; None says nothing."""
        user_id = self._people.remembered_id(me)
        if user_id is None:
            return None
        role = self._memberships.remembered(room_id, user_id)
        if role is None:
            return None
        decision = _MEMBERS_MAY.get((action, role))
        return user_id if decision is not None and decision.allowed else None

    async def _may(self, me: Principal, action: Action, room_id: str) -> tuple[str, Role]:
        """The caller's chat user id and role, if they may; raises what the refusal answers."""
        user_id, role = await self._role(me, room_id)
        _permit(_MEMBERS_MAY.get((action, role)) or decide(action, Facts(role=role)))
        return user_id, role

    async def _role(self, me: Principal, room_id: str) -> tuple[str, Role]:
        """The caller's chat user id and role; a stranger gets the answer of a room that is not there."""
        user_id = await self._people.id_of(me)
        _refuse_no_id(room_id)
        role = await self._memberships.role(room_id, user_id)
        if role is None:
            raise room_not_found()
        return user_id, role


class Authors:
    """Who wrote which message. That never changes, so what was once seen is remembered."""

    _MOST = 50_000
    _MOST_PAGES = 1_000

    def __init__(self, chat: AsyncChatClient) -> None:
        self._chat = chat
        # No BoundedCache: a page brings fifty at once, and each `put` costs five times what a dict takes.
        # The older half goes when it is full, and with it all pages, which promise that theirs are known.
        self._known: dict[tuple[str, str], str] = {}
        self._pages = BoundedCache[str, Mapping[str, str]](self._MOST_PAGES)
        """The page that each room was last seen with, all of it known."""

    def remember(self, room_id: str, messages: Sequence[Message]) -> None:
        """Messages that went by."""
        known = self._known
        for message in messages:
            if message.user_id is not None:
                known[(room_id, message.id)] = message.user_id
        if len(known) > self._MOST:
            self._forget()

    def wrote(self, room_id: str, authors: Mapping[str, str]) -> None:
        """The same, for authors by message. What is *authors* once is not to be changed."""
        # Most ask for the page that somebody else has just asked for.
        if self._pages.get(room_id) is authors:
            return
        known = self._known
        for message_id, author in authors.items():
            known[(room_id, message_id)] = author
        self._pages.put(room_id, authors)
        if len(known) > self._MOST:
            self._forget()

    def _forget(self) -> None:
        known = self._known
        self._pages.forget_all()
        for key in list(known)[: len(known) - self._MOST // 2]:
            del known[key]

    def known(self, room_id: str, message_id: str) -> str | None:
        """The author's chat user id, if the message has gone by."""
        return self._known.get((room_id, message_id))

    async def look_up(self, room_id: str, message_id: str) -> str:
        """The author's chat user id, looked for from the newest message back. Raises NotFound.

        The contract has no route for one message.
        """
        before: int | None = None
        for _ in range(PAGES_SEARCHED):
            page = await self._chat.messages.list(room_id, limit=200, before=before)
            self.remember(room_id, page.items)
            for message in page.items:
                if message.id == message_id and message.user_id is not None:
                    return message.user_id
            oldest = min((one.seq for one in page.items if one.seq is not None), default=1)
            if oldest <= 1 or (before is not None and oldest >= before):
                break
            before = oldest
        raise message_not_found()


_DEAD_TOKENS = {
    "token_expired": "The chat token has expired.",
    "token_revoked": "The chat token was revoked.",
    "user_suspended": "This account may not chat at the moment.",
    "user_deleted": "The chat account of this user was deleted.",
}

_REFUSALS: dict[str, Callable[[], BrokerError]] = {
    "room_not_found": room_not_found,
    "owner_only": lambda: Refused("owner_only", "Only the room's owner may do this."),
    "author_only": lambda: Refused("author_only", "Only the message's author may do this."),
}


# What is asked all day, decided beforehand.
_MEMBERS_MAY: dict[tuple[Action, Role], Decision] = {
    (action, role): decide(action, Facts(role=role))
    for action in (Action.READ, Action.POST)
    for role in get_args(Role)
}


def _permit(decision: Decision) -> None:
    if decision.allowed:
        return
    refusal = _REFUSALS[decision.refusal or "room_not_found"]
    raise refusal()


def _not_the_author(error: chat_broker_sdk.AuthenticationError) -> BrokerError:
    if error.status == 403 and error.code in {"not_the_author", "forbidden"}:
        return _REFUSALS["author_only"]()
    return from_chat(error)


def _refuse_no_id(room_id: str) -> None:
    if not is_id(room_id):
        raise room_not_found()


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
