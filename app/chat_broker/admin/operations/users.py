"""Operators and users: find, list, create, change and delete; explain what a user may do."""

import contextlib
import hashlib
import re
from dataclasses import replace
from typing import Any

import chat_broker_sdk
from chat_broker.admin.operations.bans import BanOperations, identity_of
from chat_broker.chat.bans import MintGuard
from chat_broker.chat.ids import is_id
from chat_broker.chat.memberships import role_of
from chat_broker.chat.policy import Action, Decision, Facts, decide
from chat_broker.chat.room_names import is_room_name
from chat_broker.errors import BadInput, Conflict, NotFound, user_not_found
from chat_broker_kit.text.one_line import is_one_line
from chat_broker_sdk import AsyncChatClient, ChatUser, Page, Room

EXTERNAL = "external:"
LONGEST_USERNAME = 64

_NOT_FOR_USERNAMES = re.compile(r"[^A-Za-z0-9._-]+")


class UserOperations:
    """Raises NotFound for a user who does not exist.

    Suspending and deleting first raise the mark in the broker's database: no token that is being
    minted meanwhile is handed out.
    """

    def __init__(self, chat: AsyncChatClient, bans: BanOperations, guard: MintGuard) -> None:
        self._chat = chat
        self._bans = bans
        self._guard = guard

    async def find(self, name: str) -> ChatUser:
        """The user with this chat user id or `external:<external_user_id>`. Raises NotFound."""
        if not name.startswith(EXTERNAL):
            if not is_id(name):
                raise user_not_found()
            return await self._get(name)
        external_id = _external_id(name)
        user = None if external_id is None else await self._chat.users.find(external_id)
        if user is None:
            raise user_not_found()
        return user

    async def list(
        self, *, page: int | None, limit: int | None, q: str | None, status: str | None
    ) -> Page[ChatUser]:
        return await self._chat.users.list(page=page, limit=limit, q=q, status=status)

    async def put(self, name: str, fields: dict[str, Any]) -> tuple[ChatUser, bool]:
        """Create the user with this `external:` name, or change *fields*; True if created."""
        external_id = _external_id(name)
        if external_id is None:
            raise BadInput.field("user", "must be external:<id> with an id of 1 to 255 characters")
        for _ in range(3):  # other requests may create and delete the user meanwhile
            user = await self._chat.users.find(external_id)
            if user is None:
                created = await self._create(external_id, fields)
                if created is not None:
                    return created, True
                continue
            if not fields:
                return user, False
            with contextlib.suppress(NotFound):
                return await self.update(user, fields), False
        raise Conflict

    async def _create(self, external_id: str, fields: dict[str, Any]) -> ChatUser | None:
        """The new user; None if another request has just created it."""
        username = fields.get("username")
        usernames = [username] if username else _usernames(external_id)
        others = {name: value for name, value in fields.items() if name != "username"}
        for candidate in usernames:
            try:
                return await self._chat.users.create(
                    username=candidate, external_user_id=external_id, **others
                )
            except chat_broker_sdk.ConflictError as error:
                if error.code == "external_user_id_taken":
                    return None
                if error.code != "username_taken":
                    raise
            if await self._chat.users.find(external_id) is not None:
                return None  # the username is taken by this very user
        raise _username_taken()

    async def update(self, user: ChatUser, fields: dict[str, Any]) -> ChatUser:
        """Change *fields* of the user. Raises Conflict for activating a banned user."""
        status = fields.get("status")
        if status == "active" and await self._bans.active(user) is not None:
            raise Conflict("user_banned", "The user is banned. Lift the ban instead.")
        if status == "suspended":
            await self._guard.revoke(identity_of(user))
        try:
            changed = await self._chat.users.update(user.id, **fields)
        except chat_broker_sdk.ConflictError as error:
            if error.code == "username_taken":
                raise _username_taken() from None
            raise
        except chat_broker_sdk.NotFoundError:
            raise user_not_found() from None
        if status == "active" and (ban := await self._bans.active(user)) is not None:
            # The user was banned meanwhile and is active now. Suspend again, as part of the ban.
            await self._bans.settle(replace(ban, suspended=True))
            return await self._get(user.id)
        return changed

    async def delete(self, user: ChatUser) -> None:
        """Delete the user; messages stay. Only an operator can create the user again."""
        await self._guard.revoke(identity_of(user))
        try:
            await self._chat.users.delete(user.id)
        except chat_broker_sdk.NotFoundError:
            raise user_not_found() from None

    async def explain(
        self, user: ChatUser, room_id: str, action: Action
    ) -> tuple[Decision, dict[str, Any]]:
        """The policy's decision about *action*, and the facts it rests on, as the admin API shows them."""
        ban = await self._bans.active(user)
        room = await self._room(room_id)
        role = None
        if room is not None:
            with contextlib.suppress(chat_broker_sdk.NotFoundError):
                role = role_of(await self._chat.rooms.member(room.id, user.id))
        facts = Facts(
            room_exists=room is not None,
            private=room is not None and room.private,
            role=role,
            settings=(room.settings or {}) if room is not None else {},
            direct=room is not None and room.kind == "direct",
            banned=ban is not None,
            suspended=user.status == "suspended",
        )
        shown = {
            "user_id": user.id,
            "external_user_id": user.external_user_id,
            "status": user.status,
            "banned": facts.banned,
            "banned_until": None if ban is None else ban.until,
            "room_id": room_id if room is None else room.id,
            "room_exists": facts.room_exists,
            "private": None if room is None else room.private,
            "member": facts.role is not None,
            "role": facts.role,
        }
        return decide(action, facts), shown

    async def _room(self, room_id: str) -> Room | None:
        """The room with this id, or with `external:` and the app's own."""
        if not is_id(room_id) and not is_room_name(room_id):
            return None
        try:
            return await self._chat.rooms.get(room_id)
        except chat_broker_sdk.NotFoundError as error:
            if error.code == "project_not_found":
                raise
            return None

    async def _get(self, user_id: str) -> ChatUser:
        try:
            return await self._chat.users.get(user_id)
        except chat_broker_sdk.NotFoundError as error:
            if error.code == "project_not_found":
                raise
            raise user_not_found() from None


def _username_taken() -> Conflict:
    return Conflict("username_taken", "Another user has this username.")


def _external_id(name: str) -> str | None:
    external_id = name.removeprefix(EXTERNAL)
    is_valid = name != external_id and 1 <= len(external_id) <= 255 and is_one_line(external_id)
    return external_id if is_valid else None


def _usernames(external_id: str) -> list[str]:
    """Candidates for the username of a user of whom only the external id is known, best first."""
    digest = hashlib.sha256(external_id.encode("utf-8", "surrogatepass")).hexdigest()
    readable = "" if "@" in external_id else _NOT_FOR_USERNAMES.sub("-", external_id).strip("-.")
    if not readable or len(readable) > LONGEST_USERNAME:
        return [f"user-{digest[:n]}" for n in (8, 16, 32)]
    suffixed = (f"{readable[: LONGEST_USERNAME - n - 1]}-{digest[:n]}" for n in (4, 8, 16, 32))
    return [readable, *suffixed]
