"""What operators may do with users, tokens and rooms: the rules. Knows no web framework and no database."""

import asyncio
import contextlib
import hashlib
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog

import chat_broker_sdk
from chat_broker.admin.audit_log import new_id
from chat_broker.chat.bans import BanBook, BanRecord, MintGuard, Standings
from chat_broker.chat.ids import is_id
from chat_broker.chat.policy import Action, Decision, Facts, decide
from chat_broker.chat.ports import RoomChanges, StateUnavailable
from chat_broker.errors import (
    BadInput,
    BrokerError,
    Conflict,
    NotFound,
    from_chat,
    message_not_found,
    room_not_found,
    user_not_found,
)
from chat_broker_kit.text.instants import instant
from chat_broker_kit.text.one_line import is_one_line
from chat_broker_sdk import AsyncChatClient, ChatUser, Message, Page, RevokeReceipt, Room, Token

log = structlog.get_logger(__name__)

EXTERNAL = "external:"
SETTLE_SECONDS = 1.0
"""How long a ban that has ended may still be felt by somebody who does not ask for a token."""
GRACE_SECONDS = 15.0
AT_ONCE = 8
"""Users whose tokens are revoked side by side where all have to be, one by one."""
LONGEST_USERNAME = 64

_NOT_FOR_USERNAMES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a revocation did. None for what the Chat API does not tell."""

    generation: int | None = None
    sockets_closed: int | None = None
    nodes_acked: int | None = None
    nodes_total: int | None = None
    took_ms: int | None = None

    def to_dict(self) -> dict[str, int | None]:
        """As the admin API shows it."""
        return {
            "generation": self.generation,
            "sockets_closed": self.sockets_closed,
            "nodes_acked": self.nodes_acked,
            "nodes_total": self.nodes_total,
            "took_ms": self.took_ms,
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision, and all it rests on."""

    decision: Decision
    facts: dict[str, Any]


class HasExtra(Protocol):
    """An answer of the Chat API with the fields its SDK does not know."""

    @property
    def model_extra(self) -> dict[str, Any]:
        """Those fields."""
        ...


class Operations:
    """The acts of operators. Each is complete when it returns; raises BrokerError or a ChatError.

    Who is cut off is cut off here first, durably, and in the Chat API then: if that fails, nobody gets a
    new token, and the Chat API is told later by `run`.
    """

    def __init__(
        self,
        chat: AsyncChatClient,
        book: BanBook,
        standings: Standings,
        guard: MintGuard,
        rooms: RoomChanges,
        *,
        token_ttl: int,
        now: Callable[[], str] = instant,
    ) -> None:
        self._chat = chat
        self._book = book
        self._standings = standings
        self._guard = guard
        self._rooms = rooms
        self._token_ttl = token_ttl
        self._now = now

    # -- users ----------------------------------------------------------------------------------

    async def user(self, name: str) -> ChatUser:
        """Who is meant by a chat user id or `external:<external_user_id>`. Raises NotFound."""
        if not name.startswith(EXTERNAL):
            if not is_id(name):
                raise user_not_found()
            return await self._or_no_user(name)
        external_id = _external_id(name)
        if external_id is None:
            raise user_not_found()
        found = await self._chat.users.find(external_id)
        if found is None:
            raise user_not_found()
        return found

    async def users(
        self, *, page: int | None, limit: int | None, q: str | None, status: str | None
    ) -> Page[ChatUser]:
        """One page of users."""
        return await self._chat.users.list(page=page, limit=limit, q=q, status=status)

    async def ban_of(self, user: ChatUser) -> BanRecord | None:
        """The ban that holds, if one does."""
        standing = await self._standings.standing(identity_of(user), fresh=True)
        return standing.ban if self._standings.holds(standing) else None

    async def bans_of(self, user: ChatUser) -> list[BanRecord]:
        """All bans there ever were, latest first."""
        return await self._book.history(identity_of(user))

    async def put_user(self, name: str, fields: dict[str, Any]) -> tuple[ChatUser, bool]:
        """Create the user with this `external:` name, or change the fields given; True if created."""
        external_id = _external_id(name)
        if external_id is None:
            raise BadInput.field("user", "must be external:<id> with an id of 1 to 255 characters")
        for _ in range(3):  # others may be creating and deleting the same user
            found = await self._chat.users.find(external_id)
            if found is None:
                created = await self._create(external_id, fields)
                if created is not None:
                    return created, True
                continue
            if not fields:
                return found, False
            with contextlib.suppress(NotFound):
                return await self.update_user(found, fields), False
        raise Conflict

    async def _create(self, external_id: str, fields: dict[str, Any]) -> ChatUser | None:
        """The new user, or None if somebody else has just created them."""
        given = fields.get("username")
        wishes = [given] if given else _usernames(external_id)
        others = {name: value for name, value in fields.items() if name != "username"}
        for wish in wishes:
            try:
                return await self._chat.users.create(
                    username=wish, external_user_id=external_id, **others
                )
            except chat_broker_sdk.ConflictError as error:
                if error.code == "external_user_id_taken":
                    return None
                if error.code != "username_taken":
                    raise
            if await self._chat.users.find(external_id) is not None:
                return None  # they have the name because they are the same
        raise Conflict("username_taken", "Another user has this username.")

    async def update_user(self, user: ChatUser, fields: dict[str, Any]) -> ChatUser:
        """Change a user. Suspending cuts them off first."""
        status = fields.get("status")
        if status == "active" and await self.ban_of(user) is not None:
            raise Conflict("user_banned", "The user is banned. Lift the ban instead.")
        if status == "suspended":
            await self._guard.cut(identity_of(user))
        try:
            changed = await self._chat.users.update(user.id, **fields)
        except chat_broker_sdk.ConflictError as error:
            if error.code == "username_taken":
                raise Conflict("username_taken", "Another user has this username.") from None
            raise
        except chat_broker_sdk.NotFoundError:
            raise user_not_found() from None
        if status == "active" and (ban := await self.ban_of(user)) is not None:
            # Banned in between, and let go by us: the ban comes last, and the suspension is its own now.
            await self.settle(replace(ban, suspended=True))
            return await self._or_no_user(user.id)
        return changed

    async def delete_user(self, user: ChatUser) -> None:
        """Delete a user. Their messages stay; they are out until an operator creates them anew."""
        await self._guard.cut(identity_of(user))
        try:
            await self._chat.users.delete(user.id)
        except chat_broker_sdk.NotFoundError:
            raise user_not_found() from None

    # -- tokens ---------------------------------------------------------------------------------

    async def mint(self, user: ChatUser, *, expires_in: int | None) -> Token:
        """A chat token for the user, under the same conditions as their own."""
        life = self._token_ttl if expires_in is None else min(expires_in, self._token_ttl)

        async def make() -> Token:
            return await self._chat.users.generate_token(user.id, expires_in=life)

        return await self._guard.mint(identity_of(user), make)

    async def revoke(self, user: ChatUser, *, session_id: str | None = None) -> Receipt:
        """Make all tokens of the user worthless, or those of one session."""
        if session_id is None:
            await self._guard.cut(identity_of(user))
        try:
            told = await self._chat.users.revoke_token(user.id, session_id=session_id)
        except chat_broker_sdk.NotFoundError:
            raise user_not_found() from None
        return _receipt(told)

    async def revoke_all(self) -> tuple[Receipt, int | None]:
        """Make every token of the project worthless; answers how many users were asked for, if one by one.

        For a signing key that has leaked. A Chat API that cannot do it at once has it done for each
        user; then the receipt adds up what it tells.
        """
        await self._guard.cut(None)
        try:
            return _receipt(await self._chat.users.revoke_all()), None
        except (chat_broker_sdk.UnsupportedOperationError, chat_broker_sdk.NotFoundError):
            pass
        return await self._revoke_each()

    async def _revoke_each(self) -> tuple[Receipt, int]:
        turn = asyncio.Semaphore(AT_ONCE)
        receipts: list[Receipt] = []

        async def one(user_id: str) -> None:
            async with turn:
                with contextlib.suppress(chat_broker_sdk.NotFoundError):  # deleted in the meantime
                    receipts.append(_receipt(await self._chat.users.revoke_token(user_id)))

        batch: list[str] = []
        async for user in self._chat.users.iterate():
            batch.append(user.id)
            if len(batch) >= AT_ONCE * 8:
                await asyncio.gather(*(one(user_id) for user_id in batch))
                batch.clear()
        await asyncio.gather(*(one(user_id) for user_id in batch))
        closed = [each.sockets_closed for each in receipts]
        known = [count for count in closed if count is not None]
        return Receipt(sockets_closed=sum(known) if known else None), len(receipts)

    # -- bans -----------------------------------------------------------------------------------

    async def ban(
        self, user: ChatUser, *, reason: str, until: str | None, by: str
    ) -> tuple[BanRecord, Receipt]:
        """Let the user in nowhere until *until*, or for good; in place of an earlier ban.

        The ban holds as soon as it is in the database. If the Chat API cannot be told, what it said is
        raised; the ban holds all the same, and the Chat API is told as soon as it answers.
        """
        identity = identity_of(user)
        record = BanRecord(
            id=new_id(),
            user_id=user.id,
            external_user_id=identity,
            reason=reason,
            by=by,
            created_at=self._now(),
            until=until,
            # Who was suspended by an operator stays so when the ban ends.
            suspended=user.status != "suspended",
            pending="suspend",
        )
        await self._book.ban(record)
        await self._guard.was_cut(identity)
        standing = await self._book.standing(identity)
        try:
            receipt = await self.settle(standing.ban or record)
        except chat_broker_sdk.ChatError as error:
            raise _but_the_ban_holds(from_chat(error)) from None
        return record, receipt

    async def unban(self, user: ChatUser, *, by: str) -> BanRecord | None:
        """Lift the ban, if there is one."""
        identity = identity_of(user)
        lifted = await self._book.lift(identity, by=by, at=self._now())
        await self._guard.was_cut(identity)
        if lifted is not None:
            await self.settle(lifted)
        return lifted

    async def settle(self, record: BanRecord) -> Receipt:
        """Tell the Chat API what a ban asks of it, and go on until what was told is what holds.

        Only what the broker has suspended does it let go: an operator's suspension is not the ban's to end.
        """
        receipt = Receipt()
        for _ in range(5):
            ours = record.suspended
            if record.holds(self._now()):
                suspended, receipt = await self._suspend(record)
                ours = ours or suspended
            else:
                suspended = False
                if ours:
                    await self._let_go(record)
            if await self._book.settle(record, suspended=suspended):
                break
            # It was changed meanwhile, and perhaps told before us; ours came last and must be right.
            present = (await self._book.standing(record.external_user_id)).ban
            if present is None:
                if ours:
                    await self._let_go(record)
                present = (await self._book.standing(record.external_user_id)).ban
                if present is None:
                    break
            record = replace(present, suspended=present.suspended or suspended)
        self._standings.forget(record.external_user_id)
        return receipt

    async def _suspend(self, record: BanRecord) -> tuple[bool, Receipt]:
        suspended, ours = False, record.suspended
        if not ours:
            # Suspended already when the ban was made: by an operator, or for a ban that has been lifted
            # since, and whose suspension with it.
            try:
                ours = (await self._chat.users.get(record.user_id)).status != "suspended"
            except chat_broker_sdk.NotFoundError:
                return False, Receipt()
        if ours:
            try:
                user = await self._chat.users.update(record.user_id, status="suspended")
                suspended = True
            except chat_broker_sdk.NotFoundError:
                return False, Receipt()
            except (chat_broker_sdk.UnsupportedOperationError, chat_broker_sdk.ValidationError):
                pass  # this Chat API knows no suspension: the broker alone refuses them
            else:
                if (receipt := _suspension_receipt(user)) is not None:
                    return True, receipt
        try:
            return suspended, _receipt(await self._chat.users.revoke_token(record.user_id))
        except chat_broker_sdk.NotFoundError:
            return suspended, Receipt()

    async def _let_go(self, record: BanRecord) -> None:
        with contextlib.suppress(
            chat_broker_sdk.NotFoundError,
            chat_broker_sdk.UnsupportedOperationError,
            chat_broker_sdk.ValidationError,
        ):
            await self._chat.users.update(record.user_id, status="active")

    async def run(self) -> None:
        """Until cancelled: let go whose ban has ended, and tell the Chat API what it could not be told."""
        while True:
            await asyncio.sleep(SETTLE_SECONDS)
            try:
                await self.settle_all()
            except StateUnavailable:
                continue
            except Exception:  # a bug must not leave people banned for ever
                log.exception("bans.not_settled")

    async def settle_all(self, *, grace: float = GRACE_SECONDS) -> int:
        """Settle what is unsettled; answers how much that was.

        A ban younger than *grace* seconds is still in the hands of the call that made it, which wants
        its receipt.
        """
        settled = 0
        made_before = instant(time.time() - grace)
        now = self._now()
        for record in await self._book.unsettled(now):
            # One from the future was made before the clock was set back.
            if record.pending == "suspend" and made_before < record.created_at <= now:
                continue
            try:
                await self.settle(record)
                settled += 1
            except chat_broker_sdk.ChatError as error:
                log.warning("ban.not_told", ban=record.id, error=error.code)
        return settled

    # -- rooms ----------------------------------------------------------------------------------

    async def rooms(self, *, page: int | None, limit: int | None, q: str | None) -> Page[Room]:
        """One page of all rooms."""
        return await self._chat.rooms.list(page=page, limit=limit, q=q)

    async def messages(
        self,
        room_id: str,
        *,
        page: int | None,
        limit: int | None,
        before: int | None,
        after: int | None,
    ) -> Page[Message]:
        """What was said in any room."""
        _refuse_no_room(room_id)
        return await self._chat.messages.list(
            room_id, page=page, limit=limit, before=before, after=after
        )

    async def delete_room(self, room_id: str) -> None:
        """Delete any room."""
        _refuse_no_room(room_id)
        try:
            await self._chat.rooms.delete(room_id)
        finally:
            await self._rooms.changed(room_id)

    async def delete_message(self, room_id: str, message_id: str) -> None:
        """Empty any message."""
        _refuse_no_room(room_id)
        if not is_id(message_id):
            raise message_not_found()
        await self._chat.messages.delete(room_id, message_id)

    # -- explaining -----------------------------------------------------------------------------

    async def explain(self, user: ChatUser, room_id: str, action: Action) -> Explanation:
        """What the broker would decide if the user wanted this now, and why."""
        ban = await self.ban_of(user)
        room = await self._room(room_id)
        role = None
        if room is not None:
            try:
                member = await self._chat.rooms.member(room_id, user.id)
                role = member.role
            except chat_broker_sdk.NotFoundError:
                pass
        facts = Facts(
            room_exists=room is not None,
            private=room is not None and room.private,
            role=None if role is None else "owner" if role == "owner" else "member",
            banned=ban is not None,
            suspended=user.status == "suspended",
        )
        shown = {
            "user_id": user.id,
            "external_user_id": user.external_user_id,
            "status": user.status,
            "banned": facts.banned,
            "banned_until": None if ban is None else ban.until,
            "room_id": room_id,
            "room_exists": facts.room_exists,
            "private": None if room is None else room.private,
            "member": facts.role is not None,
            "role": facts.role,
        }
        return Explanation(decide(action, facts), shown)

    async def _room(self, room_id: str) -> Room | None:
        if not is_id(room_id):
            return None
        try:
            return await self._chat.rooms.get(room_id)
        except chat_broker_sdk.NotFoundError as error:
            if error.code == "project_not_found":
                raise
            return None

    async def _or_no_user(self, user_id: str) -> ChatUser:
        try:
            return await self._chat.users.get(user_id)
        except chat_broker_sdk.NotFoundError as error:
            if error.code == "project_not_found":
                raise
            raise user_not_found() from None


def identity_of(user: ChatUser) -> str:
    """What bans and marks hold on to: it outlives the chat user, who may be deleted and made anew."""
    return user.external_user_id or f"chat:{user.id}"


def _external_id(name: str) -> str | None:
    external_id = name.removeprefix(EXTERNAL)
    good = name != external_id and 1 <= len(external_id) <= 255 and is_one_line(external_id)
    return external_id if good else None


def _usernames(external_id: str) -> list[str]:
    """What somebody may be called of whom only the external id is known, best first."""
    short = hashlib.sha256(external_id.encode("utf-8", "surrogatepass")).hexdigest()
    wish = "" if "@" in external_id else _NOT_FOR_USERNAMES.sub("-", external_id).strip("-.")
    if not wish or len(wish) > LONGEST_USERNAME:
        return [f"user-{short[:8]}", f"user-{short[:16]}", f"user-{short[:32]}"]
    return [wish, *(f"{wish[: LONGEST_USERNAME - n - 1]}-{short[:n]}" for n in (4, 8, 16, 32))]


def _refuse_no_room(room_id: str) -> None:
    if not is_id(room_id):
        raise room_not_found()


def _receipt(told: RevokeReceipt | None) -> Receipt:
    """What the Chat API tells of a revocation."""
    if told is None:
        return Receipt()
    return Receipt(
        told.generation,
        told.sockets_closed,
        told.nodes_acked,
        told.nodes_total,
        _rounded(told.took_ms),
    )


def _suspension_receipt(user: HasExtra) -> Receipt | None:
    """The receipt that the embedded Chat API adds to the answer to a suspension."""
    told = user.model_extra.get("receipt")
    if not isinstance(told, dict):
        return None
    return Receipt(
        _whole(told.get("generation")),
        _whole(told.get("sockets_closed")),
        _whole(told.get("nodes_acked")),
        _whole(told.get("nodes_total")),
        _rounded(told.get("took_ms")),
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _rounded(value: object) -> int | None:
    if isinstance(value, float) and math.isfinite(value):
        return round(value)
    return _whole(value)


def _but_the_ban_holds(error: BrokerError) -> BrokerError:
    error.message += " The ban holds; the Chat API will be told as soon as it answers."
    return error
