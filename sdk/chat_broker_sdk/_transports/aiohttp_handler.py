"""aiohttp's connection with a limit on the bytes besides the body, which aiohttp does not limit: interim responses and
chunk extensions. A body that is not valid HTTP ends the call at once, not at its deadline.

Loads aiohttp, so it is imported where a session is opened.
"""

import asyncio
from functools import partial
from typing import Any

from aiohttp import StreamReader, TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage

from chat_broker_sdk._errors import ServerError
from chat_broker_sdk._log import log

from .base import CHUNK_FRAMING, LARGEST_HEAD, not_http, overhead_too_large

READ_AHEAD = 1024 * 1024
"""Bytes that may have been read and not yet been counted as body or framing: aiohttp's buffer, and one read."""


NEEDED = ("_payload", "_tail", "exception", "feed_data", "set_exception", "transport")
"""The attributes of aiohttp's own handler that BoundedHandler uses."""


def bound(connector: TCPConnector) -> None:
    """Make *connector* open bounded connections. If aiohttp has changed, log a warning: interim responses are then unbounded."""
    loop = asyncio.get_running_loop()
    handler = ResponseHandler(loop)
    if hasattr(connector, "_factory") and all(hasattr(handler, name) for name in NEEDED):
        factory: Any = partial(BoundedHandler, loop)
        connector._factory = factory
    else:
        log.warning(
            "chat_broker_sdk: AiohttpTransport does not know this aiohttp: interim responses are unbounded"
        )


class BoundedHandler(ResponseHandler):
    """Ends a response that is malformed, or has too many bytes that are neither body nor framing.

    Closes a connection on which bytes arrive without a request: aiohttp would take them for the next call's response.
    """

    _overhead_left = 0
    _body: StreamReader | None = None

    def set_response_params(self, **params: Any) -> None:
        """Called by aiohttp when a request begins."""
        self._overhead_left = LARGEST_HEAD + READ_AHEAD
        self._body = None
        unrequested = bool(self._tail)
        super().set_response_params(**params)
        if unrequested:
            self._fail(not_http())

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Called by aiohttp when a head is complete, and its body begins."""
        message, body = data
        if message.code >= 200:
            self._body = body
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio with received bytes."""
        if data and self._body is not None and self._body.is_eof():
            if self.transport is not None:
                self.transport.abort()
            return
        self._overhead_left -= len(data)
        super().data_received(data)
        if self._overhead_left < 0:
            self._fail(overhead_too_large())
        elif self.exception() is not None:
            self._fail(not_http())

    def _fail(self, error: ServerError) -> None:
        """End the call and the connection. aiohttp alone would end only a call that waits for the head."""
        payload = self._payload
        self.set_exception(error)
        if payload is not None and not payload.is_eof():
            payload.set_exception(error)
        if self.transport is not None:
            self.transport.abort()

    def body_received(self, size: int, *, chunk: bool) -> None:
        """Count *size* bytes as body. *chunk*: they end a chunk."""
        self._overhead_left += size + (CHUNK_FRAMING if chunk else 0)
