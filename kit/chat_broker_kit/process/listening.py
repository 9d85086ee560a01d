"""Binds a program's ports before it opens anything else, and releases them without losing a connection."""

import asyncio
import contextlib
import ctypes
import errno
import socket
import struct
import sys
from collections.abc import Iterable
from typing import Any

SETTLE_SECONDS = 0.1
"""Between `stop_handshakes` and closing a socket, for handshakes that have begun."""
_SO_ATTACH_FILTER = 26
_WITHOUT_SYN = (
    (0x30, 0, 0, 13),  # load the flags of the TCP header
    (0x45, 0, 1, 0x02),  # is SYN set?
    (0x06, 0, 0, 0),  # then drop the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # else accept it whole
)
"""A classic BPF program, as (code, jump if true, jump if false, operand)."""


class CannotListen(Exception):  # noqa: N818 - a finding for the operator
    """The port cannot be bound: the *setting* concerned, *what* is wrong, and what to *do*."""

    def __init__(self, setting: str, what: str, do: str, *, taken: bool = False) -> None:
        super().__init__(f"{setting}: {what}; {do}")
        self.setting = setting
        self.what = what
        self.do = do
        self.taken = taken
        """Whether another program listens there."""


def bind_port(host: str, port: int, setting: str = "PORT") -> socket.socket:
    """A socket bound to *host* and *port*, not listening yet. Raises CannotListen, which names *setting*."""
    family, address = _resolve(host, port)
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _refusal(error, host, port, setting) from None
    bound.set_inheritable(True)
    return bound


def stop_handshakes(listening: Iterable[socket.socket]) -> None:
    """Refuse new TCP handshakes on these sockets, in all processes that accept from them.

    Closing a listening socket resets the connections that no process has accepted yet, with the requests on them. So
    call this first, accept for another SETTLE_SECONDS, then close. A client that connects meanwhile retries after a
    second, and is refused. Does nothing on systems without such a filter, such as macOS.
    """
    if sys.platform != "linux":
        return
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in _WITHOUT_SYN)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HP", len(_WITHOUT_SYN), ctypes.addressof(buffer))
    for each in listening:
        with contextlib.suppress(OSError):  # a sandbox may not allow filters
            each.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


async def stop_accepting(listening: Iterable[socket.socket]) -> None:
    """`stop_handshakes`, and wait until the sockets can be closed."""
    stop_handshakes(listening)
    await asyncio.sleep(SETTLE_SECONDS)
    for _ in range(2):  # the loop may be late: it polls its sockets twice more
        await asyncio.sleep(0)


def check_host(host: str) -> None:
    """Raise CannotListen for the HOST that conda sets. Other hosts are not looked up."""
    if "-conda-" in host:
        raise _not_local(host)


def addresses(bound: Iterable[socket.socket]) -> list[str]:
    """The sockets' URLs for the log, as `http://127.0.0.1:8000`."""
    names = [each.getsockname()[:2] for each in bound]
    return [
        f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        for host, port in names
    ]


def _resolve(host: str, port: int) -> tuple[int, Any]:
    try:
        choices = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise _not_local(host) from None
    # IPv4 first, where a name such as localhost has both.
    family, _, _, _, address = min(choices, key=lambda choice: choice[0] != socket.AF_INET)
    return family, address


def _not_local(host: str) -> CannotListen:
    by_conda = " (conda sets HOST to the kind of machine)" if "-conda-" in host else ""
    return CannotListen(
        "HOST",
        f"{host} is no address of this machine{by_conda}",
        "set HOST=127.0.0.1, or HOST=0.0.0.0 for all addresses",
    )


def _refusal(error: OSError, host: str, port: int, setting: str) -> CannotListen:
    match error.errno:
        case errno.EADDRINUSE:
            do = f"stop that one (ss -ltnp 'sport = :{port}' shows it), or set another {setting}"
            what = f"{port} on {host} is taken by another program"
            return CannotListen(setting, what, do, taken=True)
        case errno.EACCES:
            what = f"{port} needs more rights than this user has"
            return CannotListen(setting, what, "set one above 1023")
        case errno.EADDRNOTAVAIL:
            return _not_local(host)
    return CannotListen(setting, f"{host}:{port}: {error.strerror}", f"set another {setting}")
