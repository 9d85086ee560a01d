"""What is said in rooms, on its way to frontends: a message is read and written out once, however many ask for it.

A room's newest messages are what everybody asks for. What a frontend gets to see of a message depends on nothing but the
Chat API's bytes for it, so that is remembered by those bytes: an edit or a deletion makes other bytes.
"""

from msgspec import Raw, Struct, field

from app import views
from chat_sdk import Message, ServerError

MOST_BYTES = 8 * 1024 * 1024
"""Of all that is remembered; when it is more, the older half is forgotten."""
LARGEST = 16 * 1024
"""Bytes of a message that is worth remembering."""


class UpstreamPage(Struct, frozen=True):
    """A page of messages as the Chat API sends it, each still as it came. Fields of a newer one are passed over."""

    items: list[Raw]
    page: int = 1
    limit: int | None = None
    total: int | None = None
    total_pages: int | None = field(name="totalPages", default=None)
    next_cursor: int | None = None
    has_more: bool | None = None


class Said(Struct, frozen=True):
    """One message: its *id*, its author's chat user id, and the JSON that frontends get."""

    id: str
    author: str | None
    view: Raw


class SaidMessages:
    """Turns the Chat API's messages into what frontends see."""

    def __init__(self, *, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._known: dict[bytes, Said] = {}
        self._size = 0

    def all(self, page: UpstreamPage) -> list[Said]:
        """The messages of *page*, in its order. Raises ServerError for one that is none."""
        known = self._known
        found = []
        for raw in page.items:
            sent = bytes(raw)
            said = known.get(sent)
            found.append(self._read(sent) if said is None else said)
        return found

    def _read(self, sent: bytes) -> Said:
        message = read(sent)
        view = views.encode(views.message(message))
        said = Said(message.id, message.user_id, Raw(view))
        size = len(sent) + len(view)
        if size <= LARGEST:
            self._known[sent] = said
            self._size += size
            if self._size > self._most:
                self._forget_half()
        return said

    def _forget_half(self) -> None:
        for sent in list(self._known)[: (len(self._known) + 1) // 2]:
            self._size -= len(sent) + len(bytes(self._known.pop(sent).view))

    def __len__(self) -> int:
        return len(self._known)


def read(sent: bytes) -> Message:
    """One message of the Chat API's. Raises ServerError, which quotes nothing of it."""
    try:
        return Message.from_json(sent)
    except (ValueError, RecursionError):
        pass
    raise ServerError(
        "A message of the Chat API is not what the contract says", status=200, code="bad_response"
    )
