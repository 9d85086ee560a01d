"""What a reader is told of their own reactions, beside messages that do not show all users of a reaction.

Such messages are the same bytes for every reader, so they do not say it themselves.
"""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from chat_broker_server.chat.models import Changes, CursorPage, Message, Page, Pins
from chat_broker_server.rest.request import Request

P = TypeVar("P", Page, CursorPage, Changes, Pins)


async def add(request: Request, reader_id: str | None, page: P, messages: Sequence[Message]) -> P:
    """*page* with the reader's reactions to its *messages*, where there are some to tell. None: there is no reader."""
    if reader_id is None:
        return page
    own = await request.chat.own_reactions(request.pid, reader_id, messages)
    return msgspec.structs.replace(page, mine=own) if own else page
