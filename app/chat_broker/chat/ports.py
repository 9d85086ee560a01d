"""What the broker remembers, as the rules see it: small protocols, nothing of any database.

Each raises StateUnavailable when it cannot say, unless its own docstring tells otherwise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class StateUnavailable(Exception):  # noqa: N818 - the state of things, not a bug
    """The database or Redis does not answer; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Link:
    """A principal, keyed by (issuer, subject), and their chat user in one project.

    *display_name*, *email* and *avatar_url* are what the Chat API was last told.
    """

    project_id: str
    issuer: str
    subject: str
    user_id: str
    external_id: str
    display_name: str | None = None
    email: str | None = None
    avatar_url: str | None = None


class Links(Protocol):
    """Principal ↔ chat user, for ever. One chat user belongs to one principal."""

    async def find(self, project_id: str, issuer: str, subject: str) -> Link | None:
        """The link of a principal."""
        ...

    async def add(self, link: Link) -> Link | None:
        """Keep *link* unless the principal has one; answers the one that is kept.

        None if the chat user belongs to another principal; nothing is kept then.
        """
        ...

    async def note(self, link: Link, told: Mapping[str, str]) -> None:
        """Keep what the Chat API was just *told* of the link's user: a display name, an e-mail address, an avatar.

        Nothing is kept if the link leads to another user by now.
        """
        ...

    async def move(self, link: Link, *, to: Link) -> Link | None:
        """Have *link* lead where *to* does, unless it was moved meanwhile; answers the one that is kept.

        None if the other chat user belongs to another principal; nothing is changed then.
        """
        ...


@dataclass(frozen=True, slots=True)
class Ban:
    """A user may not chat: until when (None: until it is lifted), and why (for the operator)."""

    external_id: str
    reason: str
    until: datetime | None = None


class Bans(Protocol):
    """Who may not chat. Fails closed: StateUnavailable means that no user gets in."""

    async def active_ban(self, external_id: str) -> Ban | None:
        """The ban in force, if there is one. Called for every request, so answers may be cached for a second."""
        ...

    def note_token_request(self) -> None:
        """A request for a token has arrived: a revocation from now on must stop its token."""
        ...


class RoomChanges(Protocol):
    """Tells whether who is in a room may have changed, on any replica, since one last looked."""

    async def mark(self, room_id: str) -> str | None:
        """A mark that is another one after every `changed`. None: cannot be told, so remember nothing."""
        ...

    async def changed(self, room_id: str) -> None:
        """Have every replica see another mark from now on. Never raises."""
        ...


Listener = Callable[[str | None], None]
"""Called with the key that changed, or None: anything may have, forget all."""


class Hints(Protocol):
    """Tells other replicas that something has changed, so that they forget what they remember.

    What changes in this process is not echoed to it: the code that makes a change clears its own cache.
    """

    @property
    def live(self) -> bool:
        """Whether hints of other replicas arrive right now."""
        ...

    def on(self, topic: str, listener: Listener) -> None:
        """Have *listener* called when another replica says that *topic* changed."""
        ...

    async def tell(self, topic: str, key: str | None) -> None:
        """Tell the others that *key* of *topic* changed (None: all of it). Never raises: it is a hint."""
        ...


class Heartbeat(Protocol):
    """A row per process, so that one knows of the others."""

    async def beat(self) -> int:
        """Say that this process lives; answers how many others do."""
        ...

    async def stop(self) -> None:
        """Take the row away."""
        ...
