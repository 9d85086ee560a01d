"""The optional features and the size limits of this server, as `GET /project` tells them."""

from typing import Final

from chat_broker_kit.http.headers import LARGEST_BODY
from chat_broker_server.chat.members import SMALL_ROOM
from chat_broker_server.chat.models import Limits
from chat_broker_server.chat.pins import MOST_PINS
from chat_broker_server.chat.reactions import MOST_EMOJI
from chat_broker_server.chat.sizes import LARGEST_PAGE, LARGEST_RESPONSE
from chat_broker_server.chat.validation import LONGEST_CONTENT, METADATA_BYTES

FEATURES: Final[tuple[str, ...]] = (
    "changes",
    "sync",
    "mine",
    "direct",
    "external_rooms",
    "replies",
    "mentions",
    "reactions",
    "pins",
    "blocks",
    "directory",
    "receipts",
    "presence",
    "signals",
    "roles",
)

LIMITS: Final = Limits(
    small_room=SMALL_ROOM,
    content=LONGEST_CONTENT,
    metadata=METADATA_BYTES,
    body=LARGEST_BODY,
    answer=LARGEST_RESPONSE,
    page=LARGEST_PAGE,
    pins=MOST_PINS,
    reactions=MOST_EMOJI,
)
