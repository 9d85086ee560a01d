"""Which chat user a principal is: found, created once, kept up to date."""

import asyncio
import hashlib
import re
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import chat_broker_sdk
from chat_broker.chat.ids import is_id
from chat_broker.chat.ports import Link, Links, StateUnavailable
from chat_broker.chat.principal import Principal
from chat_broker.errors import (
    Conflict,
    NotFound,
    named_user_not_found,
    user_deleted,
    user_not_found,
    user_suspended,
)
from chat_broker_kit.bounded_cache import BoundedCache, ExpiringCache
from chat_broker_kit.text.one_line import is_one_line
from chat_broker_sdk import AsyncChatClient, ChatUser

EXTERNAL = "external:"
MOST = 50_000
STATUS_CACHED_FOR = 5.0
"""Seconds for which a user may not know that they are suspended."""
PROFILE_CACHED_FOR = 30.0
"""Seconds until the profile at the Chat API is compared again with the identity provider's."""
MOST_PROFILES = 5_000
PROFILES_AT_ONCE = 10
NOT_STORED = "writes_unavailable"
"""The Chat API's code for a change that it cannot store at the moment, though it answers."""
LONGEST_USERNAME, LONGEST_NAME, LONGEST_EMAIL, LONGEST_ADDRESS = 64, 128, 254, 2048

_LIST_ITEM = re.compile(r"[a-z_]+\[([0-9]{1,4})\]")
_NOT_FOR_USERNAMES = re.compile(r"[^A-Za-z0-9._-]+")
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+")


class _Known:
    """What this process need not ask again of a principal."""

    __slots__ = ("active_until", "link", "up_to_date")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.up_to_date: Principal | None = None
        """Whose name and e-mail address the chat user has, by identity: a cached token brings the same object each time."""
        self.active_until = 0.0
        """Until when the chat user need not be looked at for a suspension."""


class Identities:
    """Principal → chat user. The link is in the database; this process caches the links it has used."""

    def __init__(
        self, chat: AsyncChatClient, links: Links, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._chat = chat
        self._links = links
        self._clock = clock
        self._known = BoundedCache[str, _Known](MOST)
        self._under_way: dict[str, asyncio.Task[Link]] = {}
        self._profiles = ExpiringCache[str, ChatUser](MOST_PROFILES, clock=clock)

    async def active_id(self, me: Principal) -> str:
        """The id of the principal's chat user, who is created on first sight.

        Raises Refused for a user who is suspended or deleted: asked for, and cached for 5 s at most.
        """
        known = self._known.get(me.user)
        if known is not None and self._clock() < known.active_until:
            return known.link.user_id
        return (await self._look(me)).id

    async def up_to_date_id(self, me: Principal) -> str:
        """The id of the principal's chat user in any standing, once their name, e-mail address and avatar are as the principal's."""
        known = self._known.get(me.user)
        if known is not None and known.up_to_date is me:
            return known.link.user_id
        link = await self._link(me)
        if changes := _news(me, link):
            link = await self._tell(me, link, changes)
        elif (known := self._known.get(me.user)) is not None and known.link is link:
            known.up_to_date = me
        return link.user_id

    async def current(self, me: Principal) -> ChatUser:
        """The principal's chat user as they are now. A changed name or e-mail address gets there first."""
        await self.up_to_date_id(me)
        return await self._look(me)

    def cached_id(self, me: Principal) -> str | None:
        """The id of the principal's chat user in any standing; None if this process has not seen them."""
        known = self._known.get(me.user)
        return None if known is None else known.link.user_id

    async def _look(self, me: Principal) -> ChatUser:
        link = await self._link(me)
        until = self._clock() + STATUS_CACHED_FOR
        try:
            user = await self._chat.users.get(link.user_id)
        except chat_broker_sdk.NotFoundError:
            user = await self._chat.users.get(await self.find_again(me, instead_of=link.user_id))
        is_suspended = user.status == "suspended"
        known = self._known.get(me.user)
        if known is not None and known.link.user_id == user.id:
            known.active_until = 0.0 if is_suspended else until
        if is_suspended:
            raise user_suspended()
        return user

    async def known_id(self, me: Principal) -> str | None:
        """The id of the principal's chat user, or None if there is none yet."""
        if (user_id := self.cached_id(me)) is not None:
            return user_id
        project = await self._chat.project()
        link = await self._links.find(project.id, me.issuer, me.subject)
        return None if link is None else link.user_id

    async def find_again(self, me: Principal, *, instead_of: str) -> str:
        """The id now, after the Chat API has said that there is no user *instead_of*.

        An operator may have created a deleted user anew under the same external id. No user is created
        here: who was deleted stays out. Raises Refused `user_deleted`.
        """
        key = me.user
        known = self._known.get(key)
        self._known.forget(key)
        link = await self._link(me) if known is None else known.link
        if link.user_id != instead_of:
            return link.user_id
        found = await self._chat.users.find(link.external_id)
        if found is None or found.id == instead_of:
            self._known.forget(key)
            raise user_deleted()
        moved = await self._links.move(
            link,
            to=replace(
                link,
                user_id=found.id,
                display_name=found.display_name,
                email=found.email,
                avatar_url=found.avatar_url,
            ),
        )
        if moved is None:
            self._known.forget(key)
            raise _user_taken()
        self._known.put(key, _Known(moved))
        return moved.user_id

    async def resolve(self, name: str) -> str:
        """The id of the chat user whom a caller names by it, or by `external:<external_user_id>`.

        No user is created by being named. Raises NotFound `user_not_found`.
        """
        if not name.startswith(EXTERNAL):
            if not is_id(name):
                raise user_not_found()
            return name
        external_id = name.removeprefix(EXTERNAL)
        if not 1 <= len(external_id) <= 255 or not is_one_line(external_id):
            raise user_not_found()
        found = await self._chat.users.find(external_id)
        if found is None:
            raise user_not_found()
        return found.id

    async def resolve_all(self, names: Sequence[str], field: str) -> dict[str, str]:
        """The ids of the users whom a caller names in the list *field*, each with its name, in order.

        Raises NotFound `user_not_found`, which names the first that cannot be a user.
        """
        user_ids = await self._each(names)
        missing = next((at for at, user_id in enumerate(user_ids) if user_id is None), None)
        if missing is not None:
            before = [user_id for user_id in user_ids[:missing] if user_id is not None]
            there = {user.id for user in await self.profiles(before)}
            missing = next((at for at, each in enumerate(before) if each not in there), missing)
            raise named_user_not_found(f"{field}[{missing}]", names[missing])
        resolved: dict[str, str] = {}
        for user_id, name in zip(user_ids, names, strict=True):
            resolved.setdefault(user_id or "", name)
        return resolved

    async def known_among(self, names: Sequence[str]) -> list[str]:
        """The ids of those whom a caller names, each once, without those who cannot be users."""
        user_ids = await self._each(names)
        return list(dict.fromkeys(user_id for user_id in user_ids if user_id is not None))

    async def _each(self, names: Sequence[str]) -> list[str | None]:
        """What `resolve` answers to each name; None for one who cannot be a user."""
        turn = asyncio.Semaphore(PROFILES_AT_ONCE)

        async def resolved(name: str) -> str | None:
            async with turn:
                try:
                    return await self.resolve(name)
                except NotFound:
                    return None

        return await asyncio.gather(*(resolved(name) for name in names))

    async def profiles(self, user_ids: Sequence[str]) -> list[ChatUser]:
        """The users as they were within the last half minute; without those that are gone."""
        turn = asyncio.Semaphore(PROFILES_AT_ONCE)
        now = self._clock()

        async def profile(user_id: str) -> ChatUser | None:
            cached = self._profiles.get(user_id)
            if cached is not None:
                return cached
            async with turn:
                try:
                    user = await self._chat.users.get(user_id)
                except chat_broker_sdk.NotFoundError:
                    return None
            self._profiles.put(user_id, user, until=now + PROFILE_CACHED_FOR)
            return user

        found = await asyncio.gather(*(profile(user_id) for user_id in user_ids))
        return [user for user in found if user is not None]

    # -- links ----------------------------------------------------------------------------------

    async def _link(self, me: Principal) -> Link:
        """The link, cached, found or made: one attempt at a time per principal, shared by all who wait for it."""
        key = me.user
        if (known := self._known.get(key)) is not None:
            return known.link
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(self._find_or_create(me))
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._landed(key, done))
        # A caller who goes away must not take the others' answer with them.
        return await asyncio.shield(task)

    def _landed(self, key: str, task: "asyncio.Task[Link]") -> None:
        self._under_way.pop(key, None)
        if not task.cancelled() and task.exception() is None:
            self._known.put(key, _Known(task.result()))

    async def _find_or_create(self, me: Principal) -> Link:
        project = await self._chat.project()
        link = await self._links.find(project.id, me.issuer, me.subject)
        if link is not None:
            return link
        for external_id in (me.external_id, _of_another_issuer(me)):
            user = await self._user(me, external_id)
            kept = await self._links.add(
                Link(
                    project_id=project.id,
                    issuer=me.issuer,
                    subject=me.subject,
                    user_id=user.id,
                    external_id=external_id,
                    display_name=user.display_name,
                    email=user.email,
                    avatar_url=user.avatar_url,
                )
            )
            # The user with this external id is another principal's: the same subject of another
            # issuer. They are two people until an operator says otherwise.
            if kept is not None:
                return kept
        raise _user_taken()

    async def _user(self, me: Principal, external_id: str) -> ChatUser:
        """The chat user with this external id: created now, or found after the Chat API's 409."""
        for username in _usernames(me):
            try:
                return await self._chat.users.create(
                    username=username,
                    external_user_id=external_id,
                    display_name=_display_name(me),
                    email=_email(me),
                    avatar_url=_avatar_url(me),
                )
            except chat_broker_sdk.ConflictError:
                found = await self._chat.users.find(external_id)
                if found is not None:
                    return found
        raise Conflict("username_taken", "No free username was found for this user.")

    async def _tell(self, me: Principal, link: Link, changes: dict[str, Any]) -> Link:
        try:
            await self._chat.users.update(link.user_id, **changes)
        except chat_broker_sdk.NotFoundError:
            return link  # deleted: what comes next will say so
        except chat_broker_sdk.UnsupportedOperationError:
            pass
        except chat_broker_sdk.ServerError as error:
            if error.code != NOT_STORED:
                raise
            return link  # a name can wait; the next request tells it again
        with suppress(StateUnavailable):  # it is remembered here, and noted another time
            await self._links.note(link, changes)
        # Another request may have told something else meanwhile, or found another user.
        known = self._known.get(me.user)
        present = link if known is None else known.link
        if present.user_id == link.user_id:
            present = replace(present, **changes)
        self._known.put(me.user, _Known(present))
        return present


@contextmanager
def naming(resolved: Mapping[str, str], field: str) -> Iterator[None]:
    """Have a call that names the users *resolved* fail with the name that the caller gave the first who is missing.

    The Chat API says which of the ids it was; *field* is the caller's list of names.
    """
    try:
        yield
    except chat_broker_sdk.NotFoundError as error:
        number = _LIST_ITEM.fullmatch(error.errors[0].field) if error.errors else None
        names = list(resolved.values())
        if error.code != "user_not_found" or number is None or int(number[1]) >= len(names):
            raise
        raise named_user_not_found(f"{field}[{number[1]}]", names[int(number[1])]) from None


def _user_taken() -> Conflict:
    return Conflict("user_taken", "This user's chat account belongs to somebody else.")


def _news(me: Principal, link: Link) -> dict[str, Any]:
    """What the Chat API was not told yet. A claim that is missing says nothing."""
    news: dict[str, Any] = {}
    if (name := _display_name(me)) is not None and name != link.display_name:
        news["display_name"] = name
    if (email := _email(me)) is not None and email != link.email:
        news["email"] = email
    if (avatar := _avatar_url(me)) is not None and avatar != link.avatar_url:
        news["avatar_url"] = avatar
    return news


def _display_name(me: Principal) -> str | None:
    name = (me.name or "").strip()[:LONGEST_NAME].strip()
    return name if name and is_one_line(name) else None


def _email(me: Principal) -> str | None:
    email = (me.email or "").strip()
    usable = len(email) <= LONGEST_EMAIL and is_one_line(email) and _EMAIL.fullmatch(email)
    return email if usable else None


def _avatar_url(me: Principal) -> str | None:
    """The claim, if it is an http(s) URL. Other schemes could run in a browser that shows it."""
    address = (me.avatar_url or "").strip()
    if len(address) > LONGEST_ADDRESS or " " in address or not is_one_line(address):
        return None
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    return address if parts.scheme in {"http", "https"} and parts.hostname else None


def _usernames(me: Principal) -> list[str]:
    """What the chat user may be called, best first. Never made from an e-mail address."""
    digest = hashlib.sha256(f"{me.issuer}\0{me.subject}".encode("utf-8", "surrogatepass"))
    short = digest.hexdigest()
    wish = me.username or ""
    if "@" in wish:  # many providers put the address there
        wish = ""
    wish = unicodedata.normalize("NFKD", wish)
    wish = "".join(character for character in wish if not unicodedata.combining(character))
    wish = _NOT_FOR_USERNAMES.sub("-", wish).strip("-.")[:LONGEST_USERNAME]
    if not wish:
        return [f"user-{short[:8]}", f"user-{short[:16]}", f"user-{short[:32]}"]
    return [wish, *(f"{wish[: LONGEST_USERNAME - n - 1]}-{short[:n]}" for n in (4, 8, 16, 32))]


def _of_another_issuer(me: Principal) -> str:
    issuer = hashlib.sha256(me.issuer.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    external_id = f"{issuer}:{me.external_id}"
    if len(external_id) <= 255:
        return external_id
    return f"{issuer}:{hashlib.sha256(me.external_id.encode('utf-8', 'surrogatepass')).hexdigest()}"
