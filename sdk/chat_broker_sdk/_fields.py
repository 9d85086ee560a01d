"""Request bodies from keyword arguments."""

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, UnsetType

__all__ = ["UNSET", "UnsetType", "without_none", "without_unset"]


def without_none(**fields: Any) -> dict[str, Any]:
    """The *fields* that are not None: the body of a call for which an absent field and null mean the same."""
    return {name: value for name, value in fields.items() if value is not None}


def without_unset(more: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """The *fields* that are not UNSET, and *more*: the body of an update, where None clears a field."""
    return {**{name: value for name, value in fields.items() if value is not UNSET}, **more}
