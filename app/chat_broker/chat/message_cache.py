"""What is said in rooms, on its way to frontends: read and written out once, however many ask for it.

A room's newest messages are what everybody asks for. What a frontend gets to see of a page, or of one message, depends on
nothing but the Chat API's bytes for it, so that is remembered by those bytes: an edit or a deletion makes other bytes.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

from chat_broker.chat import views
from chat_broker_sdk import Message, ServerError

MOST_BYTES = 4 * 1024 * 1024
"""Of all pages that are remembered, and of all messages; when it is more, the older half is forgotten."""
LARGEST = 16 * 1024
"""Bytes of a message that is worth remembering, with what is made of it; of a page, ten times as many."""


_pages = msgspec.json.Decoder(views.UpstreamPage)


class Said(Struct, frozen=True):
    """One message: its *id*, its author's chat user id, and the JSON that frontends get."""

    id: str
    author: str | None
    view: Raw
    is_crowded: bool = False
    """A reaction to it has more users than it shows."""


class SaidPage(Struct, frozen=True):
    """A page: the JSON that frontends get, and the author's chat user id of each message by its id."""

    view: bytes
    authors: dict[str, str]
    crowded: tuple[str, ...] = ()
    """The ids of messages with a reaction of more users than are shown."""


Kept = TypeVar("Kept")


class _Memory(Generic[Kept]):
    """What was made of some bytes, for as much of it as *most_bytes* hold.

    No BoundedCache: entries differ a thousandfold in size, and an entry goes stale only when it is no longer read.
    """

    def __init__(self, most_bytes: int, largest: int) -> None:
        self._most = most_bytes
        self._largest = largest
        self._size = 0
        self.kept: dict[bytes, Kept] = {}

    def __len__(self) -> int:
        return len(self.kept)

    def keep(self, sent: bytes, made: Kept, size: int) -> None:
        """Remember *made*, of *size* bytes, as what comes of *sent*."""
        size += len(sent)
        if size > self._largest:
            return
        self.kept[sent] = made
        self._size += size
        if self._size > self._most:
            # Half of the entries for half of the bytes: near enough, and no size need be kept for each.
            for old in list(self.kept)[: (len(self.kept) + 1) // 2]:
                del self.kept[old]
            self._size //= 2


class SaidMessages:
    """Turns the Chat API's messages into what frontends see."""

    def __init__(self, *, most_bytes: int = MOST_BYTES) -> None:
        self.pages: _Memory[SaidPage] = _Memory(most_bytes, 10 * LARGEST)
        self.messages: _Memory[Said] = _Memory(most_bytes, LARGEST)

    def page(self, sent: bytes) -> SaidPage:
        """The page that the Chat API has *sent*. Raises ServerError for what is none."""
        page = self.pages.kept.get(sent)
        return self._read_page(sent) if page is None else page

    def _read_page(self, body: bytes) -> SaidPage:
        upstream = _as_promised(_pages.decode, body, "page of messages")
        said = [self._one(bytes(raw)) for raw in upstream.items]
        view = views.encode(views.page(upstream, [one.view for one in said]))
        authors = {one.id: one.author for one in said if one.author is not None}
        page = SaidPage(view, authors, tuple(one.id for one in said if one.is_crowded))
        self.pages.keep(body, page, len(view))
        return page

    def _one(self, sent: bytes) -> Said:
        said = self.messages.kept.get(sent)
        if said is None:
            message = _as_promised(Message.from_json, sent, "message")
            view = views.encode(views.message(message))
            said = Said(message.id, message.user_id, Raw(view), is_crowded(message))
            self.messages.keep(sent, said, len(view))
        return said


def is_crowded(message: Message) -> bool:
    """Whether a reaction to the message has more users than it shows."""
    return any(each.count > len(each.user_ids) for each in message.reactions)


def _as_promised(decode: Callable[[bytes], Kept], sent: bytes, what: str) -> Kept:
    """What *decode* makes of *sent*. Raises ServerError, which quotes nothing of it."""
    try:
        return decode(sent)
    except (ValueError, RecursionError):
        pass
    raise ServerError(
        f"A {what} of the Chat API is not what the contract says", status=200, code="bad_response"
    )
