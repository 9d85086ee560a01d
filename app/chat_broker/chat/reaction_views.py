"""What frontends see of reactions and pins."""

from collections.abc import Iterable, Mapping

from msgspec import UNSET, Struct, UnsetType, structs

from chat_broker.chat import views
from chat_broker_sdk import CursorPage, Message, Page, Reaction, Reactor


class ReactionsView(Struct):
    """All reactions to a message, by first use."""

    reactions: list[views.ReactionView]


class ReactorView(Struct):
    """Who reacted, and with what."""

    emoji: str
    user_id: str
    username: str | None
    display_name: str | None
    created_at: str | None


class ReactorsView(Struct):
    """Who reacted to a message. The next ones are had with *next_cursor*."""

    items: list[ReactorView]
    limit: int | None
    next_cursor: str | None
    has_more: bool


class PinsView(Struct):
    """The pinned messages of a room, newest pin first. *mine*: the caller's reactions, where not all users are shown."""

    items: list[views.MessageView]
    mine: Mapping[str, tuple[str, ...]] | UnsetType = UNSET


class ReadMessageView(views.MessageView):
    """A message as the caller reads it. *mine*: their reactions, where it does not show all users of one."""

    mine: Mapping[str, tuple[str, ...]] | UnsetType = UNSET


def read_message(one: Message, own: Mapping[str, tuple[str, ...]]) -> views.MessageView:
    """A message as the caller reads it."""
    view = views.message(one)
    return ReadMessageView(**structs.asdict(view), mine=own) if own else view


def reactions(of: Iterable[Reaction]) -> ReactionsView:
    """All reactions to a message."""
    return ReactionsView(views.reactions(of))


def reactors(page: CursorPage[Reactor]) -> ReactorsView:
    """A page of who reacted."""
    items = [
        ReactorView(
            one.emoji, one.user_id, one.username, one.display_name, views.instant(one.created_at)
        )
        for one in page.items
    ]
    return ReactorsView(items, page.limit, page.next_cursor, page.has_more)


def pins(page: Page[Message]) -> PinsView:
    """The pinned messages of a room."""
    return PinsView([views.message(one) for one in page.items], page.mine or UNSET)
