"""What frontends see of who has read a message, and of who is online."""

from collections.abc import Iterable

from msgspec import UNSET, Struct, UnsetType

from chat_broker.chat import views
from chat_broker_sdk import MessageReceipts, Presence, Receipt


class ReceiptsView(Struct):
    """Chat user ids of those who have read a message and whom it has reached, without its author, and their numbers."""

    read: tuple[str, ...]
    delivered: tuple[str, ...]
    read_count: int
    delivered_count: int


class ReceiptView(Struct):
    """How far a member is in a small room."""

    user_id: str
    read_seq: int
    delivered_seq: int


class PresenceView(Struct):
    """Whether a user is online; null for one who does not want to be seen."""

    user_id: str
    online: bool | None
    last_seen_at: str | UnsetType = UNSET


class PresencesView(Struct):
    """The users who may be seen."""

    items: list[PresenceView]


def receipts(of: MessageReceipts) -> ReceiptsView:
    """Who has read a message."""
    return ReceiptsView(of.read, of.delivered, of.read_count, of.delivered_count)


def receipt(of: Receipt) -> ReceiptView:
    """How far a member is."""
    return ReceiptView(of.user_id, of.read_seq, of.delivered_seq)


def presences(users: Iterable[Presence]) -> PresencesView:
    """The users of whom the caller may know whether they are online."""
    return PresencesView([_presence(one) for one in users])


def _presence(of: Presence) -> PresenceView:
    return PresenceView(of.user_id, of.online, views.instant(of.last_seen_at) or UNSET)
