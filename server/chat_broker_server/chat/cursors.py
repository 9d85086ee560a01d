"""Values that a client hands back as it got them: where the next page begins, for one."""

import base64
from typing import Any, TypeVar

import msgspec

from chat_broker_server.errors import BadInput

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(_encode(value)).decode().rstrip("=")


def decoded(name: str, text: str, kind: type[T]) -> T:
    """What `encoded` made *text* of. Raises BadInput, about the field *name*."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(raw, type=kind)
    except (ValueError, msgspec.MsgspecError):
        raise BadInput.field(name, "is none of this server") from None
