"""How large an answer may be. A list of messages that would be larger ends early, and says `has_more`."""

from collections.abc import Sequence
from typing import Final

import msgspec

from chat_broker_server.chat.models import Message, Page

LARGEST_ANSWER: Final = 512 * 1024
"""Bytes of JSON. A page by number is not bound by it: its size is what the caller has asked for."""

LARGEST_PAGE: Final = 200
"""Items of it."""

_encode = msgspec.json.Encoder().encode


def fitting(messages: Sequence[Message], room: int) -> list[Message]:
    """The first of *messages* whose JSON takes at most *room* bytes; one message always fits."""
    left = room
    for count, message in enumerate(messages):
        left -= len(_encode(message)) + 1
        if left < 0 and count:
            return list(messages[:count])
    return list(messages)


def shortened(page: Page) -> Page:
    """*page*, which a cursor led to, with as many messages as an answer may hold."""
    around = len(_encode(msgspec.structs.replace(page, items=[])))
    items = fitting(page.items, LARGEST_ANSWER - around)
    if len(items) == len(page.items):
        return page
    return msgspec.structs.replace(page, items=items, next_cursor=items[-1].seq, has_more=True)
