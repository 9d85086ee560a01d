"""The parts of conformance checks. A check tests one promise of the contract on a live server."""

import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from chat_broker_sdk._async.client import AsyncChatClient
from chat_broker_sdk._errors import ChatError, UnsupportedOperationError
from chat_broker_sdk._models import ChatUser, Message, Room

Verdict = Literal["has", "lacks", "wrong", "skipped"]
HAS: Verdict = "has"
LACKS: Verdict = "lacks"
GOT_WRONG: Verdict = "wrong"
SKIPPED: Verdict = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. *note* explains a verdict other than `has`."""

    area: str
    name: str
    verdict: Verdict
    note: str = ""


class Broken(AssertionError):  # noqa: N818 - a finding about the server
    """The server breaks a promise of the contract."""


class Missing(Exception):  # noqa: N818 - skips the check
    """The server lacks something that this check needs."""


class World:
    """What the checks share: a client, two users, a room and a message, created on first use."""

    def __init__(self, client: AsyncChatClient) -> None:
        self.client = client
        self.run = f"conformance-{uuid.uuid4().hex[:10]}"
        self._ann: ChatUser | None = None
        self._bob: ChatUser | None = None
        self._room: Room | None = None
        self._rooms: list[str] = []
        self._message: Message | None = None

    async def people(self) -> tuple[ChatUser, ChatUser]:
        """Two users, Ann and Bob."""
        if self._ann is None or self._bob is None:
            users = self.client.users
            self._ann = await users.ensure(f"{self.run}|ann", username=f"{self.run}-ann")
            self._bob = await users.ensure(f"{self.run}|bob", username=f"{self.run}-bob")
        return self._ann, self._bob

    async def room(self) -> Room:
        """Ann's room, with both users as members."""
        if self._room is None:
            _, bob = await self.people()
            self._room = await self.new_room()
            await self.client.rooms.join(self._room.id, user_id=bob.id)
        return self._room

    async def new_room(self, **options: Any) -> Room:
        """Another room of Ann's, for one check only."""
        ann, _ = await self.people()
        room = await self.client.rooms.create(name=self.run, created_by=ann.id, **options)
        return self.delete_later(room)

    def delete_later(self, room: Room) -> Room:
        """*room*, which is deleted at the end."""
        self._rooms.append(room.id)
        return room

    async def message(self) -> Message:
        """A message of Ann's in the shared room."""
        if self._message is None:
            ann, _ = await self.people()
            room = await self.room()
            self._message = await self.client.messages.create(
                room.id, content="hello", user_id=ann.id
            )
        return self._message

    async def token(self, user: ChatUser) -> str:
        """A new token for *user*."""
        return (await self.client.users.generate_token(user.id)).token

    async def clean_up(self) -> None:
        """Delete the created rooms and users, as far as the server can."""
        for room_id in self._rooms:
            with suppress(ChatError):
                await self.client.rooms.delete(room_id)
        for user in (self._ann, self._bob):
            with suppress(ChatError):
                if user is not None:
                    await self.client.users.delete(user.id)


Check = Callable[[World], Awaitable[None]]
CHECKS: list[tuple[str, str, Check]] = []


def check(area: str, name: str) -> Callable[[Check], Check]:
    """Decorator that adds a check to CHECKS."""

    def register(function: Check) -> Check:
        CHECKS.append((area, name, function))
        return function

    return register


def expect(condition: object, otherwise: str) -> None:
    """Raise Broken unless *condition* holds. *otherwise* quotes no secret."""
    if not condition:
        raise Broken(otherwise)


async def refused(call: Awaitable[Any], status: int, *codes: str) -> ChatError:
    """The error of *call*, which must be refused with *status*, and with one of *codes* if there are any."""
    try:
        await call
    except UnsupportedOperationError:
        raise
    except ChatError as error:
        expect(error.status == status, f"answers {error.status} where {status} is due")
        if codes:
            expect(error.code in codes, f"code {error.code} where {' or '.join(codes)} is due")
        return error
    raise Broken(f"is answered with success where {status} is due")
