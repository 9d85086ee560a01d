"""`X-Request-Id`: the client's if it is valid, else a random one."""

import re
from collections.abc import Sequence

from chat_broker_kit.text.random_hex import random_hex

_REQUEST_ID = re.compile(rb"[A-Za-z0-9-]{8,64}")


def request_id_of(values: Sequence[bytes]) -> str:
    """The header's value if it is a single valid one; else a new id."""
    if len(values) == 1 and _REQUEST_ID.fullmatch(values[0]):
        return values[0].decode("ascii")
    return random_hex()
