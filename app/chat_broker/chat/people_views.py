"""What frontends see of other users, and of what they have set themselves."""

from collections.abc import Iterable

from msgspec import Struct

from chat_broker_sdk import PublicUser, UserSettings


class PublicUserView(Struct):
    """What users see of each other."""

    id: str
    username: str | None
    display_name: str | None
    avatar_url: str | None


class FoundView(Struct):
    """The users that were found."""

    items: list[PublicUserView]


class SettingsView(Struct):
    """What the caller has set about themself."""

    presence: str
    receipts: bool
    notify: str | None
    push_preview: bool


def public_user(one: PublicUser) -> PublicUserView:
    """A user as others see them."""
    return PublicUserView(one.id, one.username, one.display_name, one.avatar_url)


def found(users: Iterable[PublicUser]) -> FoundView:
    """The users that were found."""
    return FoundView([public_user(one) for one in users])


def settings(one: UserSettings) -> SettingsView:
    """The caller's settings."""
    return SettingsView(one.presence, one.receipts, one.notify, one.push_preview)
