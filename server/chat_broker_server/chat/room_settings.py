"""The settings of a room, which its owner changes one by one."""

from typing import Any, Literal

import msgspec


class RoomSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """What holds in a room. JSON, stored and answered, has those that are not as they are in every new room."""

    read_only: bool = False
    """Only owners and moderators post."""
    slow_mode: int = 0
    """Seconds between two messages of one member."""
    history: Literal["all", "joined"] = "all"
    """What newcomers see: all messages, or those after they joined."""
    invites: Literal["owners", "members"] = "owners"
    """Who invites: owners and moderators, or members, too."""
    system_messages: bool = False
    edit_window: int = 0
    """Seconds after which a user can no longer edit a message; 0: never."""
    retention_days: int = 0
    """0: as long as the project keeps messages."""
    reactions: bool = True
    threads: bool = True
    attachments: bool = True


NO_SETTINGS = RoomSettings()
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(RoomSettings).decode


def changed(settings: RoomSettings, changes: dict[str, Any]) -> RoomSettings:
    """*settings* with those of *changes* in place of their own."""
    return msgspec.structs.replace(settings, **changes)


def from_text(text: str | None) -> RoomSettings:
    """The settings as they are stored; None: none was ever set."""
    return NO_SETTINGS if text is None else _decode(text)


def to_text(settings: RoomSettings) -> str | None:
    """*settings* to be stored."""
    return None if settings == NO_SETTINGS else _encode(settings).decode()
