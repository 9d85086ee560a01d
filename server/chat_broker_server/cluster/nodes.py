"""What nodes say to one another, and which of them are alive.

Every message has a version and its sender. Anything else on the channel, a pickle for example, is not even looked
into: it fails to decode, and is counted.
"""

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Final

import msgspec

from chat_broker_kit.tasks import end
from chat_broker_server.cluster.bus import MAX_BYTES, Bus

_VERSION: Final = 1
_ALIVE_BEATS = 3.5  # a node unheard for so many heartbeats is not waited for


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """I am here."""


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """I am new, or was deaf: tell me who you are and who is online."""


class Bye(msgspec.Struct, frozen=True, tag="bye"):
    """I am going away."""


class Happened(msgspec.Struct, frozen=True, tag="happened", omit_defaults=True):
    """An `Event` of a room."""

    name: str
    project_id: str
    room_id: str
    payload: msgspec.Raw
    seq: int | None = None
    user_id: str | None = None


class Close(msgspec.Struct, frozen=True, tag="close", omit_defaults=True):
    """Close somebody's sockets, and answer `Closed` with this *call*."""

    call: str
    project_id: str
    user_id: str
    code: str
    session_id: str | None = None


class Closed(msgspec.Struct, frozen=True, tag="closed"):
    """So many sockets were closed here, for the node that asked by *call*."""

    call: str
    sockets: int


class Online(msgspec.Struct, frozen=True, tag="online", omit_defaults=True):
    """Who came to and who went from a room on my node; *whole*: these and nobody else."""

    project_id: str
    room_id: str
    came: list[str] = []  # msgspec copies empty defaults
    went: list[str] = []
    whole: bool = False


Body = Beat | Hello | Bye | Happened | Close | Closed | Online


class Envelope(msgspec.Struct, frozen=True):
    """One message on the bus."""

    v: int
    node: str
    body: Body


class Nodes:
    """The other nodes: speaks to them through a bus, and knows which are alive."""

    def __init__(
        self,
        bus: Bus,
        *,
        heartbeat: float,
        heard: Callable[[str, Body], None],
        left: Callable[[str], None],
        recovered: Callable[[], None],
    ) -> None:
        """*heard* gets every message of another node, *left* the name of each that went away."""
        self.name = uuid.uuid4().hex
        self.junk = 0
        self._bus = bus
        self._heartbeat = heartbeat
        self._heard = heard
        self._left = left
        self._recovered = recovered
        self._alive: dict[str, float] = {}
        self._decoder = msgspec.json.Decoder(Envelope)
        self._encoder = msgspec.json.Encoder()
        self._beating: asyncio.Task[None] | None = None
        self._calls: dict[str, _Call] = {}

    @property
    def state(self) -> str:
        """The bus's state."""
        return self._bus.state

    @property
    def others(self) -> int:
        """How many other nodes are alive, as far as known."""
        return len(self._alive)

    async def start(self) -> None:
        """Connect and say hello; from then on beat."""
        await self._bus.start(self._receive, self._again)
        self._beating = asyncio.create_task(self._beat(), name="heartbeat")

    async def close(self) -> None:
        """Say goodbye."""
        if self._beating is not None:
            await end(self._beating)
        self.say(Bye())
        await self._bus.close()

    def say(self, body: Body) -> None:
        """Tell all other nodes, if there can be any."""
        if self._bus.state != "off":
            self._bus.send(self._encoder.encode(Envelope(_VERSION, self.name, body)))

    async def ask_to_close(self, close: Close, deadline: float) -> tuple[int, int, int]:
        """Have every node close somebody's sockets: (sockets closed, nodes that answered, nodes known)."""
        waiting = set(self._alive)
        if not waiting:
            self.say(close)  # somebody may be there whom this node has not heard yet
            return 0, 0, 0
        call = self._calls[close.call] = _Call(waiting)
        known = len(waiting)
        try:
            self.say(close)
            async with asyncio.timeout(deadline):
                await call.done.wait()
        except TimeoutError:
            pass
        finally:
            del self._calls[close.call]
        return call.sockets, call.answered, known

    def _again(self) -> None:
        self.say(Hello())
        self._recovered()

    async def _beat(self) -> None:
        while True:
            self.say(Beat())
            deadline = time.monotonic() - self._heartbeat * _ALIVE_BEATS
            for node in [node for node, seen in self._alive.items() if seen < deadline]:
                self._forget(node)
            await asyncio.sleep(self._heartbeat)

    def _forget(self, node: str) -> None:
        if self._alive.pop(node, None) is not None:
            self._left(node)

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
            self.say(Hello())  # it does not know us either, or has forgotten us
        self._alive[message.node] = time.monotonic()
        if isinstance(body, Hello):
            self.say(Beat())
        if isinstance(body, Closed):
            if (call := self._calls.get(body.call)) is not None:
                call.answer(message.node, body.sockets)
            return
        self._heard(message.node, body)


class _Call:
    def __init__(self, nodes: set[str]) -> None:
        self._waiting = nodes
        self.sockets = 0
        self.answered = 0
        self.done = asyncio.Event()

    def answer(self, node: str, sockets: int) -> None:
        if node in self._waiting:
            self._waiting.discard(node)
            self.answered += 1
            self.sockets += sockets
            if not self._waiting:
                self.done.set()
