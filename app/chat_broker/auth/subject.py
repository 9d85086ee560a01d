"""Reads claims by name or path, and checks which values can be a user id."""

from collections.abc import Mapping
from typing import Any

from chat_broker.auth.errors import BadToken
from chat_broker_kit.text.one_line import is_one_line

MAX_SUBJECT_LENGTH = 255


def claim_value(claims: Mapping[str, Any], name: str) -> Any:
    """The claim *name*; without one, the member that the dotted path leads to (`user.id`); else None."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def check_subject(subject: object, *, name: str) -> str:
    """*subject* unchanged. Raises BadToken unless it has 1 to 255 bytes and no control character."""
    if not isinstance(subject, str) or not subject:
        raise BadToken(f"the claim {name} is missing")
    if len(subject.encode("utf-8", "surrogatepass")) > MAX_SUBJECT_LENGTH:
        raise BadToken(f"the claim {name} is longer than {MAX_SUBJECT_LENGTH} bytes")
    if not is_one_line(subject):
        raise BadToken(f"the claim {name} holds control characters")
    return subject
