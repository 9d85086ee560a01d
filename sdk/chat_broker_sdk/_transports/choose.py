"""Which transports each client accepts, and how ChatClient uses an asynchronous one."""

import inspect

from .background import BackgroundTransport
from .base import SyncTransport, Transport

AsyncTransportArgument = Transport
TransportArgument = SyncTransport | Transport


def async_resolve_transport(transport: AsyncTransportArgument) -> Transport:
    """*transport*: AsyncChatClient accepts asynchronous ones only."""
    return transport


def resolve_transport(transport: TransportArgument) -> SyncTransport:
    """*transport*, or a BackgroundTransport around an asynchronous one."""
    if inspect.iscoroutinefunction(transport.send):
        return BackgroundTransport(transport)  # type: ignore[arg-type]  # its send tells which of the two it is
    return transport  # type: ignore[return-value]  # likewise
