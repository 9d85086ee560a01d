"""The largest response with a list of messages. A longer list is cut and has `has_more` set."""

from collections.abc import Sequence
from typing import Final

import msgspec

from chat_broker_server.chat.models import Message, Page

LARGEST_RESPONSE: Final = 512 * 1024
"""Bytes of JSON. A numbered page may be larger: its length is the `limit` of the request."""

LARGEST_PAGE: Final = 200
"""Items of a page, the largest `limit`."""

_encode = msgspec.json.Encoder().encode


def fitting(messages: Sequence[Message], size: int) -> list[Message]:
    """As many of *messages* as fit into *size* bytes of JSON, but at least one."""
    left = size
    for count, message in enumerate(messages):
        left -= len(_encode(message)) + 1
        if left < 0 and count:
            return list(messages[:count])
    return list(messages)


def shortened(page: Page) -> Page:
    """*page* (by cursor) with only as many messages as fit into LARGEST_RESPONSE."""
    overhead = len(_encode(msgspec.structs.replace(page, items=[])))
    items = fitting(page.items, LARGEST_RESPONSE - overhead)
    if len(items) == len(page.items):
        return page
    return msgspec.structs.replace(page, items=items, next_cursor=items[-1].seq, has_more=True)
