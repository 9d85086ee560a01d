"""The messages between nodes, and which nodes are alive.

Every message has a version and its sender. Other content of the channel, such as a pickle, fails to decode; it is counted
and dropped.
"""

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Final

import msgspec

from chat_broker_kit.tasks import cancel_and_wait
from chat_broker_server.chat.events import Departure
from chat_broker_server.chat.models import Receipt
from chat_broker_server.cluster.bus import MAX_BYTES, Bus

_VERSION: Final = 1
_HEARTBEATS_UNTIL_DEAD = 3.5  # missed heartbeats after which a node counts as dead


class Heartbeat(msgspec.Struct, frozen=True, tag="beat"):
    """The sender is alive."""


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The sender has started or has lost messages. The others answer with Heartbeat and presence."""


class Bye(msgspec.Struct, frozen=True, tag="bye"):
    """The sender is stopping."""


class RoomEvent(msgspec.Struct, frozen=True, tag="happened", omit_defaults=True):
    """An `Event` of a room."""

    name: str
    project_id: str
    room_id: str
    payload: msgspec.Raw
    seq: int | None = None
    user_id: str | None = None
    rev: int | None = None
    reason: Departure | None = None


class MembersHint(msgspec.Struct, frozen=True, tag="added"):
    """A `MembersAdded` of a room."""

    project_id: str
    room_id: str
    user_ids: list[str]


class MineHint(msgspec.Struct, frozen=True, tag="mine", omit_defaults=True):
    """A `MineChanged` of a user."""

    project_id: str
    user_id: str
    room_ids: list[str]
    from_seq: int | None = None
    version: int | None = None


class ProfileHint(msgspec.Struct, frozen=True, tag="profile"):
    """What `ProfileChanged` says, for the other nodes."""

    project_id: str
    user_id: str


class ReceiptHint(msgspec.Struct, frozen=True, tag="receipt"):
    """What `ReceiptsMoved` says, for the other nodes."""

    project_id: str
    receipts: dict[str, Receipt]


class SignalHint(msgspec.Struct, frozen=True, tag="signal"):
    """What `UserSignalled` says, for the other nodes."""

    project_id: str
    user_id: str
    payload: msgspec.Raw


class PrivacyHint(msgspec.Struct, frozen=True, tag="privacy"):
    """What `PrivacyChanged` says, for the other nodes."""

    project_id: str
    user_id: str
    hidden: bool
    receipts: bool


class OnlineChange(msgspec.Struct, frozen=True, tag="user", omit_defaults=True):
    """Users whose first socket on the sender has opened, or whose last one has closed."""

    project_id: str
    came: list[str] = []  # msgspec copies empty defaults
    went: list[str] = []


class UsersOnline(msgspec.Struct, frozen=True, tag="users"):
    """All users of a part, by project, that have a socket on the sender."""

    part: int
    users: dict[str, list[str]]


class Close(msgspec.Struct, frozen=True, tag="close", omit_defaults=True):
    """Disconnect a user's sockets, and answer with Closed."""

    request_id: str = msgspec.field(name="call")
    project_id: str
    user_id: str
    code: str
    session_id: str | None = None


class Closed(msgspec.Struct, frozen=True, tag="closed"):
    """The answer to Close: how many sockets the sender closed."""

    request_id: str = msgspec.field(name="call")
    sockets: int


class PresenceUpdate(msgspec.Struct, frozen=True, tag="online", omit_defaults=True):
    """Users who subscribed to and unsubscribed from a room on the sender. *whole*: `came` is the complete list."""

    project_id: str
    room_id: str
    came: list[str] = []  # msgspec copies empty defaults
    went: list[str] = []
    whole: bool = False


Body = (
    Heartbeat
    | Hello
    | Bye
    | RoomEvent
    | MembersHint
    | MineHint
    | ProfileHint
    | ReceiptHint
    | SignalHint
    | PrivacyHint
    | OnlineChange
    | UsersOnline
    | Close
    | Closed
    | PresenceUpdate
)


class Envelope(msgspec.Struct, frozen=True):
    """One message on the bus."""

    v: int
    node: str
    body: Body


class Nodes:
    """Sends messages to the other nodes through the bus, and notes which are alive."""

    def __init__(
        self,
        bus: Bus,
        *,
        heartbeat: float,
        on_message: Callable[[str, Body], None],
        on_node_left: Callable[[str], None],
        on_recovered: Callable[[], None],
    ) -> None:
        """*on_message* gets each message of another node, *on_node_left* the name of each that stopped or died."""
        self.name = uuid.uuid4().hex
        self.junk = 0
        self._bus = bus
        self._heartbeat = heartbeat
        self._on_message = on_message
        self._on_node_left = on_node_left
        self._on_recovered = on_recovered
        self._alive: dict[str, float] = {}
        self._decoder = msgspec.json.Decoder(Envelope)
        self._encoder = msgspec.json.Encoder()
        self._heartbeat_task: asyncio.Task[None] | None = None
        self._pending: dict[str, _PendingClose] = {}

    @property
    def state(self) -> str:
        return self._bus.state

    @property
    def is_first(self) -> bool:
        """Whether this node comes first by name among those that are alive: exactly one of them does, as a rule."""
        return all(self.name < other for other in self._alive)

    @property
    def others(self) -> int:
        """How many other nodes are alive."""
        return len(self._alive)

    async def start(self) -> None:
        """Connect, send Hello, and send heartbeats from then on."""
        await self._bus.start(self._receive, self._on_bus_recovered)
        self._heartbeat_task = asyncio.create_task(self._send_heartbeats(), name="heartbeat")

    async def close(self) -> None:
        """Send Bye and close the bus."""
        if self._heartbeat_task is not None:
            await cancel_and_wait(self._heartbeat_task)
        self.broadcast(Bye())
        await self._bus.close()

    def broadcast(self, body: Body) -> None:
        """Send to all other nodes; does nothing without a bus."""
        if self._bus.state != "off":
            self._bus.send(self._encoder.encode(Envelope(_VERSION, self.name, body)))

    async def ask_to_close(self, close: Close, deadline: float) -> tuple[int, int, int]:
        """Send *close* to all nodes. Returns (sockets closed, nodes that answered, nodes alive)."""
        waiting = set(self._alive)
        if not waiting:
            self.broadcast(close)  # for nodes that this one does not know yet
            return 0, 0, 0
        pending = self._pending[close.request_id] = _PendingClose(waiting)
        known = len(waiting)
        try:
            self.broadcast(close)
            async with asyncio.timeout(deadline):
                await pending.done.wait()
        except TimeoutError:
            pass
        finally:
            del self._pending[close.request_id]
        return pending.sockets, pending.answered, known

    def _on_bus_recovered(self) -> None:
        self.broadcast(Hello())
        self._on_recovered()

    async def _send_heartbeats(self) -> None:
        while True:
            self.broadcast(Heartbeat())
            deadline = time.monotonic() - self._heartbeat * _HEARTBEATS_UNTIL_DEAD
            for node in [node for node, seen in self._alive.items() if seen < deadline]:
                self._forget(node)
            await asyncio.sleep(self._heartbeat)

    def _forget(self, node: str) -> None:
        if self._alive.pop(node, None) is not None:
            self._on_node_left(node)

    def _receive(self, raw: bytes) -> None:
        try:
            message = self._decoder.decode(raw) if len(raw) <= MAX_BYTES else None
        except ValueError:  # msgspec's errors are ValueErrors, and UnicodeDecodeError too
            message = None
        if message is None or message.v != _VERSION or not message.node:
            self.junk += 1
            return
        if message.node == self.name:
            return
        body = message.body
        if isinstance(body, Bye):
            self._forget(message.node)
            return
        if message.node not in self._alive and not isinstance(body, Hello):
            self.broadcast(Hello())  # it may not know this node either
        self._alive[message.node] = time.monotonic()
        if isinstance(body, Hello):
            self.broadcast(Heartbeat())
        if isinstance(body, Closed):
            if (pending := self._pending.get(body.request_id)) is not None:
                pending.add_answer(message.node, body.sockets)
            return
        self._on_message(message.node, body)


class _PendingClose:
    def __init__(self, nodes: set[str]) -> None:
        self._waiting = nodes
        self.sockets = 0
        self.answered = 0
        self.done = asyncio.Event()

    def add_answer(self, node: str, sockets: int) -> None:
        if node in self._waiting:
            self._waiting.discard(node)
            self.answered += 1
            self.sockets += sockets
            if not self._waiting:
                self.done.set()
