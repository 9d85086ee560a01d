"""What happens in the model while clients come and go. A new kind of change is one line of ACTIONS."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from chat_broker_sdk import AsyncChatClient, Member

if TYPE_CHECKING:
    from tests.model.world import World

MUTED_UNTIL = (None, datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
ROLES = ("owner", "member", "moderator", "guest")
EMOJI = ("👍", "🎉", ":yes:")
SETTINGS: tuple[dict[str, Any], ...] = (
    {"read_only": True},
    {"read_only": False},
    {"history": "joined"},
    {"history": "all"},
    {"system_messages": True},
    {"system_messages": False},
)


class Pick(NamedTuple):
    """Whom and what an action is about, by numbers that were drawn."""

    world: "World"
    node: int
    room_number: int
    user_number: int
    n: int

    @property
    def api(self) -> AsyncChatClient:
        """The Chat API at the node of this action, with the project's key."""
        return self.world.apis[self.node % len(self.world.apis)]

    @property
    def room(self) -> str:
        return self.world.rooms[self.room_number % len(self.world.rooms)]

    @property
    def user(self) -> str:
        return self.world.users[self.user_number % len(self.world.users)]

    @property
    def other(self) -> str:
        return self.world.users[(self.user_number + 1 + self.n % 2) % len(self.world.users)]

    @property
    def message(self) -> str:
        """A message of the room, or an id that no message has."""
        ids = self.world.messages[self.room]
        return ids[-1 - self.n % len(ids)] if ids else "none"

    @property
    def seq(self) -> int:
        return self.n % (len(self.world.messages[self.room]) + 2)

    @property
    def text(self) -> str:
        return f"text {self.world.next_number()}"

    def of(self, choices: tuple[Any, ...]) -> Any:
        return choices[self.n % len(choices)]


async def _post(p: Pick) -> None:
    message = await p.api.messages.create(p.room, content=p.text, user_id=p.user)
    p.world.messages[p.room].append(message.id)


async def _post_many(p: Pick) -> None:
    for _ in range(3 + p.n % 5):
        await _post(p)


async def _new_room(p: Pick) -> None:
    if len(p.world.rooms) < 5:
        await p.world.open_room(p.user, *p.world.users[: p.n % 3], private=p.n % 2 == 0)


async def _direct(p: Pick) -> None:
    room = await p.api.rooms.ensure_direct([p.user, p.other])
    if room.id not in p.world.messages:
        p.world.rooms.append(room.id)
        p.world.messages[room.id] = []


async def _delete_room(p: Pick) -> None:
    if len(p.world.rooms) > 1:
        await p.world.delete_room(p.room, p.api)


async def _clear_history(p: Pick) -> None:
    mine = await p.api.rooms.update_mine(p.room, user_id=p.user, clear_history=True)
    p.world.note_hidden(p.user, p.room, mine.from_seq)


async def _enter(p: Pick, entering: Awaitable[Member]) -> None:
    member = await entering
    p.world.note_hidden(p.user, member.room_id or "", member.from_seq or 1)


async def _leave(p: Pick) -> None:
    p.world.note_end(p.user, p.room)
    await p.api.rooms.leave(p.room, user_id=p.user)


async def _remove(p: Pick) -> None:
    p.world.note_end(p.user, p.room)
    await p.api.rooms.remove_member(p.room, p.user)


ACTIONS: dict[str, Callable[[Pick], Awaitable[Any]]] = {
    "post": _post,
    "post many": _post_many,
    "edit": lambda p: p.api.messages.update(p.room, p.message, content=p.text),
    "delete": lambda p: p.api.messages.delete(p.room, p.message),
    "rename": lambda p: p.api.rooms.update(p.room, name=p.text),
    "open or close": lambda p: p.api.rooms.update(p.room, private=p.of((True, False))),
    "add": lambda p: _enter(p, p.api.rooms.put_member(p.room, p.user)),
    "role": lambda p: _enter(p, p.api.rooms.set_role(p.room, p.user, p.of(ROLES))),
    "settings": lambda p: p.api.rooms.update(p.room, settings=p.of(SETTINGS)),
    "react": lambda p: p.api.messages.react(p.room, p.message, p.of(EMOJI), user_id=p.user),
    "unreact": lambda p: p.api.messages.unreact(p.room, p.message, p.of(EMOJI), user_id=p.user),
    "pin": lambda p: p.api.messages.pin(p.room, p.message, user_id=p.user),
    "unpin": lambda p: p.api.messages.unpin(p.room, p.message, user_id=p.user),
    "block": lambda p: p.api.users.block(p.user, p.other),
    "unblock": lambda p: p.api.users.unblock(p.user, p.other),
    "direct": _direct,
    "join": lambda p: _enter(p, p.api.rooms.join(p.room, user_id=p.user)),
    "leave": _leave,
    "remove": _remove,
    "read": lambda p: p.api.rooms.mark_read(p.room, seq=p.seq, user_id=p.user),
    "delivered": lambda p: p.api.rooms.mark_delivered(p.room, seq=p.seq, user_id=p.user),
    "read all": lambda p: p.api.rooms.mark_all_read(p.user),
    "archive": lambda p: p.api.rooms.update_mine(
        p.room, user_id=p.user, archived=p.of(("until_message", "yes", "no"))
    ),
    "notify": lambda p: p.api.rooms.update_mine(
        p.room, user_id=p.user, notify=p.of(("none", "all", None))
    ),
    "mute": lambda p: p.api.rooms.update_mine(
        p.room, user_id=p.user, muted_until=p.of(MUTED_UNTIL)
    ),
    "pin room": lambda p: p.api.rooms.update_mine(
        p.room, user_id=p.user, pinned=p.of((True, False))
    ),
    "mark unread": lambda p: p.api.rooms.update_mine(
        p.room, user_id=p.user, marked_unread=p.of((True, False))
    ),
    "clear history": _clear_history,
    "new room": _new_room,
    "delete room": _delete_room,
}
OFTEN = ("post", "edit", "delete", "react", "post", "edit", "rename", "role")
"""Drawn as often again."""
