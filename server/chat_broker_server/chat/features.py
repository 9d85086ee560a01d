"""What this server offers beyond the first contract, and how much of something it takes: see `GET /project`."""

from typing import Final

from chat_broker_kit.http.headers import LARGEST_BODY
from chat_broker_server.chat.models import Limits
from chat_broker_server.chat.sizes import LARGEST_ANSWER, LARGEST_PAGE
from chat_broker_server.chat.validation import LONGEST_CONTENT, METADATA_BYTES

FEATURES: Final[tuple[str, ...]] = ()

LIMITS: Final = Limits(
    content=LONGEST_CONTENT,
    metadata=METADATA_BYTES,
    body=LARGEST_BODY,
    answer=LARGEST_ANSWER,
    page=LARGEST_PAGE,
)
