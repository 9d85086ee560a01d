"""The largest response with a list of messages. A longer list is cut and has `has_more` set."""

from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from chat_broker_server.chat.models import Page

LARGEST_RESPONSE: Final = 512 * 1024
"""Bytes of JSON. A numbered page may be larger: its length is the `limit` of the request."""

LARGEST_PAGE: Final = 200
"""Items of a page, the largest `limit`."""

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


def fitting(items: Sequence[T], size: int) -> list[T]:
    """As many of *items* as fit into *size* bytes of JSON, but at least one."""
    left = size
    for count, item in enumerate(items):
        left -= len(_encode(item)) + 1
        if left < 0 and count:
            return list(items[:count])
    return list(items)


def shortened_around(page: Page, seq: int) -> Page:
    """*page* (around *seq*) with only as many messages as fit into LARGEST_RESPONSE: the nearest, but at least one."""
    size = LARGEST_RESPONSE - len(_encode(msgspec.structs.replace(page, items=[])))
    nearest = fitting(sorted(page.items, key=lambda message: abs(message.seq - seq)), size)
    items = sorted(nearest, key=lambda message: message.seq)
    return msgspec.structs.replace(
        page,
        items=items,
        has_before=page.has_before or items[0].seq > page.items[0].seq,
        has_after=page.has_after or items[-1].seq < page.items[-1].seq,
    )


def shortened(page: Page) -> Page:
    """*page* (by cursor) with only as many messages as fit into LARGEST_RESPONSE."""
    overhead = len(_encode(msgspec.structs.replace(page, items=[])))
    items = fitting(page.items, LARGEST_RESPONSE - overhead)
    if len(items) == len(page.items):
        return page
    return msgspec.structs.replace(page, items=items, next_cursor=items[-1].seq, has_more=True)
