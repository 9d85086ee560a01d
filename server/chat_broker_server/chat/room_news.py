"""What was done in a room, told by its system messages and by `roomUpdated`, in the transaction that did it."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from chat_broker_kit.database.transactions import Steps
from chat_broker_server.chat import changes, events, rooms, system_messages
from chat_broker_server.chat.events import Happened, Noted, SizeNote, SystemNote

T = TypeVar("T")


def told(pid: str, transaction: Callable[[], Steps[Sequence[Noted]]]) -> Steps[list[Happened]]:
    """*transaction*, which has locked the rooms of its notes, and the messages that tell these."""
    return (yield from _posted(pid, (yield from transaction())))


def told_with(
    pid: str, transaction: Callable[[], Steps[tuple[T, Sequence[Noted]]]]
) -> Steps[tuple[T, list[Happened]]]:
    """`told`, of a transaction that also returns something else."""
    result, noted = yield from transaction()
    return result, (yield from _posted(pid, noted))


def _posted(pid: str, noted: Sequence[Noted]) -> Steps[list[Happened]]:
    happened: list[Happened] = []
    for each in noted:
        if isinstance(each, SystemNote):
            event = yield from system_messages.post(pid, each.room_id, each.event, each.author_id)
            happened.append(event)
        elif isinstance(each, SizeNote):
            rev = yield from changes.next_rev(pid, each.room_id)
            yield from changes.record(pid, each.room_id, rev, "room", "")
            happened.append(events.room_updated((yield from rooms.get(pid, each.room_id))))
        else:
            happened.append(each)
    return happened
