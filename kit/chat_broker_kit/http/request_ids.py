"""`X-Request-Id`: the client's if it is valid, else a random one."""

import re
import secrets
from collections.abc import Sequence

_REQUEST_ID = re.compile(rb"[A-Za-z0-9-]{8,64}")


def request_id_of(values: Sequence[bytes]) -> str:
    """The header's value if it is a single valid one; else a new id."""
    if len(values) == 1 and _REQUEST_ID.fullmatch(values[0]):
        return values[0].decode("ascii")
    return new_request_id()


class _Ids:
    """Random ids of 32 hexadecimal digits, created 256 at a time to save system calls."""

    def __init__(self) -> None:
        self._ready: list[str] = []

    def next(self) -> str:
        if not self._ready:
            digits = secrets.token_hex(16 * 256)
            self._ready = [digits[at : at + 32] for at in range(0, len(digits), 32)]
        return self._ready.pop()


new_request_id = _Ids().next
