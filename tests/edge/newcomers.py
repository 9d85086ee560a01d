"""Clients that open a connection for each request, as a proxy does whose connections have been closed."""

import asyncio
import socket
import time
from collections import Counter

CLIENTS = 8
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def _visit(port: int) -> str:
    """One request on a connection of its own: "answered", "refused", or how it was lost."""
    try:
        connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    except ConnectionRefusedError:
        return "refused"
    received = b""
    with connection:
        try:
            connection.sendall(REQUEST)
            while more := connection.recv(65_536):
                received += more
        except OSError as error:
            return repr(error)
    return "answered" if received.startswith(b"HTTP/1.1 200 ") else f"got {received!r}"


def _visit_again_and_again(port: int) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    while not outcomes["refused"]:
        outcomes[_visit(port)] += 1
        time.sleep(0.002)
    return outcomes


async def visits(port: int) -> Counter[str]:
    """The results of requests by `CLIENTS` clients, each of which stops when a connection is refused."""
    each = [asyncio.to_thread(_visit_again_and_again, port) for _ in range(CLIENTS)]
    return sum(await asyncio.gather(*each), Counter())
