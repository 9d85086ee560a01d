"""What may be passed as `transport`, and how the synchronous client carries over an asynchronous one."""

import inspect

from .background import BackgroundTransport
from .base import SyncTransport, Transport

AsyncCarrier = Transport
Carrier = SyncTransport | Transport


def async_carrier(given: AsyncCarrier) -> Transport:
    """The transport itself."""
    return given


def carrier(given: Carrier) -> SyncTransport:
    """The transport, or a thread around an asynchronous one."""
    if inspect.iscoroutinefunction(given.send):
        return BackgroundTransport(given)  # type: ignore[arg-type]  # its send says which of the two it is
    return given  # type: ignore[return-value]  # likewise
