"""Which HTTP protocol uvicorn runs: one of ours if it fits the uvicorn that is installed, else uvicorn's own."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import structlog

from chat_broker_kit.insides import misfit

BOUNDED = "chat_broker_kit.http.protocol:BoundedHttpProtocol"

log = structlog.get_logger("chat_broker.http")


def choose_protocol(*ours: str) -> Any:
    """What to give `uvicorn.Config` as `http`: the first of *ours* ("module:Class") that fits.

    Each has what it needs of uvicorn as `NEEDS`. Where none fits, it is the name of uvicorn's own protocol, which bounds
    neither heads nor idle bodies: put a proxy in front of it that does. The log says which and why, once.
    """
    if find_spec("httptools") is None:
        log.warning("http.ordinary_protocol", protocol="h11", reason="httptools is not installed")
        return "h11"
    for address in ours:
        protocol, reason = _look_at(address)
        if not reason:
            return protocol
        log.warning("http.protocol_does_not_fit", protocol=address, reason=reason)
    log.warning("http.ordinary_protocol", protocol="httptools", reason="none of ours fits")
    return "httptools"


def _look_at(address: str) -> tuple[Any, str]:
    """The protocol, and why it does not fit."""
    module, _, name = address.partition(":")
    try:
        protocol = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        return None, str(error)
    return protocol, misfit(protocol.NEEDS, *_ours(protocol))


def _ours(protocol: type) -> list[type]:
    return [each for each in protocol.__mro__ if "NEEDS" in vars(each)]
