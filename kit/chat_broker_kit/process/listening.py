"""Takes the ports of a program before anything else is opened, and leaves them without losing a connection."""

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
"""From `stop_handshakes` to the closing of a socket: meanwhile handshakes that have begun are completed."""
_SO_ATTACH_FILTER = 26
_WITHOUT_SYN = (
    (0x30, 0, 0, 13),  # load the flags of the TCP header
    (0x45, 0, 1, 0x02),  # is SYN among them?
    (0x06, 0, 0, 0),  # then drop the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # else take all of it
)
"""A classic BPF program, as (code, jump if true, jump if false, operand)."""


class CannotListen(Exception):  # noqa: N818 - what is the case
    """The address cannot be had: which *setting* says so, *what* is wrong, and what to *do*."""

    def __init__(self, setting: str, what: str, do: str, *, taken: bool = False) -> None:
        super().__init__(f"{setting}: {what}; {do}")
        self.setting = setting
        self.what = what
        self.do = do
        self.taken = taken
        """Does another program listen there?"""


def bind_port(host: str, port: int, setting: str = "PORT") -> socket.socket:
    """A socket bound to *host* and *port*, which does not listen yet. *setting* names the port in messages.

    Raises CannotListen.
    """
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
    """Let no new handshake begin on these sockets, in all processes that accept from them.

    To close a listening socket resets every connection that the kernel has completed and no process has accepted, with
    the request that a proxy has sent on it. So call this first, accept for another `SETTLE_SECONDS`, then close. The
    kernel of a client that tries meanwhile tries again after a second, and is refused. Without effect where the system
    has no such filter, as macOS.
    """
    if sys.platform != "linux":
        return
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in _WITHOUT_SYN)
    kept = ctypes.create_string_buffer(code)
    program = struct.pack("HP", len(_WITHOUT_SYN), ctypes.addressof(kept))
    for one in listening:
        with contextlib.suppress(OSError):  # a sandbox may know no filters
            one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


async def stop_accepting(listening: Iterable[socket.socket]) -> None:
    """`stop_handshakes`, and wait until the sockets can be closed."""
    stop_handshakes(listening)
    await asyncio.sleep(SETTLE_SECONDS)
    for _ in range(2):  # the loop may be late: let it look at its sockets once more
        await asyncio.sleep(0)


def check_host(host: str) -> None:
    """Raises CannotListen for what conda puts into the environment; a host that may be one is not asked for."""
    if "-conda-" in host:
        raise _not_ours(host)


def addresses(bound: Iterable[socket.socket]) -> list[str]:
    """Where the sockets answer, for the log: `http://127.0.0.1:8000`."""
    names = [one.getsockname()[:2] for one in bound]
    return [
        f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        for host, port in names
    ]


def _resolve(host: str, port: int) -> tuple[int, Any]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise _not_ours(host) from None
    # A name such as localhost may have both kinds: the older one first, as it has always been.
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, address


def _not_ours(host: str) -> CannotListen:
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
            return _not_ours(host)
    return CannotListen(setting, f"{host}:{port}: {error.strerror}", f"set another {setting}")
