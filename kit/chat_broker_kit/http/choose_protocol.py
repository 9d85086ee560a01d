"""Chooses uvicorn's HTTP protocol: our own class if it fits the installed uvicorn, else uvicorn's."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import structlog

from chat_broker_kit.insides import misfit

BOUNDED = "chat_broker_kit.http.protocol:BoundedHttpProtocol"

log = structlog.get_logger("chat_broker.http")


def choose_protocol(*ours: str) -> Any:
    """The value of `http` for `uvicorn.Config`: the first of *ours* ("module:Class") that fits.

    The classes list what they use of uvicorn in `NEEDS`. If none fits, a warning is logged, and uvicorn's own protocol
    is used. It limits neither heads nor idle bodies, so a proxy in front of it must.
    """
    if find_spec("httptools") is None:
        log.warning("http.ordinary_protocol", protocol="h11", reason="httptools is not installed")
        return "h11"
    for address in ours:
        protocol, reason = _load(address)
        if not reason:
            return protocol
        log.warning("http.protocol_does_not_fit", protocol=address, reason=reason)
    log.warning("http.ordinary_protocol", protocol="httptools", reason="none of ours fits")
    return "httptools"


def _load(address: str) -> tuple[Any, str]:
    """The protocol, and why it does not fit ("" if it fits)."""
    module, _, name = address.partition(":")
    try:
        protocol = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        return None, str(error)
    return protocol, misfit(protocol.NEEDS, *_ours(protocol))


def _ours(protocol: type) -> list[type]:
    return [each for each in protocol.__mro__ if "NEEDS" in vars(each)]
