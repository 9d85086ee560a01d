"""A port is left without losing a connection that the kernel has completed."""

import asyncio
import socket
import sys
from collections.abc import Iterator

import pytest

from chat_broker_kit.process import listening
from chat_broker_kit.process.listening import bind_port, stop_accepting, stop_handshakes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such filter")


@pytest.fixture(params=["127.0.0.1", "::1"])
def port(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    try:
        bound = bind_port(request.param, 0)
    except listening.CannotListen:
        pytest.skip(f"no {request.param} here")
    with bound:
        bound.listen()
        yield bound


def connect(port: socket.socket) -> socket.socket:
    return socket.create_connection(port.getsockname()[:2], timeout=0.3)


def test_no_handshake_begins_and_those_before_are_accepted(port: socket.socket) -> None:
    """What was sent on a completed connection is read; a new one waits, and is refused once the port is closed."""
    with connect(port) as before:
        before.sendall(b"sent before it is accepted")
        stop_handshakes([port])
        with pytest.raises(TimeoutError):
            connect(port)
        accepted, _ = port.accept()
        with accepted:
            assert accepted.recv(100) == b"sent before it is accepted"
            before.sendall(b"sent afterwards")
            assert accepted.recv(100) == b"sent afterwards"
    where = port.getsockname()[:2]
    port.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where, timeout=0.3)


async def test_accepting_stops_when_all_that_were_let_in_are_accepted(
    port: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a loop that had no time to accept them."""
    monkeypatch.setattr(listening, "SETTLE_SECONDS", 0)
    loop = asyncio.get_running_loop()
    accepted = 0

    def accept() -> asyncio.Protocol:
        nonlocal accepted
        accepted += 1
        return asyncio.Protocol()

    server = await loop.create_server(accept, sock=port)
    clients = [connect(port) for _ in range(5)]
    await stop_accepting([port])
    server.close()
    await asyncio.sleep(0.1)
    assert accepted == len(clients)
    for client in clients:
        client.close()
