"""Request bodies from keyword arguments."""

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, UnsetType

__all__ = ["UNSET", "UnsetType", "given", "present"]


def present(**fields: Any) -> dict[str, Any]:
    """The *fields* that are not None: for creating, where absent and null are one."""
    return {name: value for name, value in fields.items() if value is not None}


def given(more: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """The *fields* that were given, None (to clear one) included, and *more* for a newer server's."""
    return {**{name: value for name, value in fields.items() if value is not UNSET}, **more}
