"""aiohttp's connection, with a bound on what is not the body: aiohttp itself reads interim responses and chunk extensions
without end. And a body that turns out to be no HTTP ends at once, not when the call's time is up.

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

from .base import CHUNK_FRAMING, LARGEST_HEAD, no_http, too_much_beside_the_body

READ_AHEAD = 1024 * 1024
"""Bytes that may have come and are not counted yet as body or framing: what aiohttp buffers, and the next read."""


NEEDED = ("_payload", "_tail", "exception", "feed_data", "set_exception", "transport")
"""Of aiohttp's own handler."""


def bound(connector: TCPConnector) -> None:
    """Have *connector* open bounded connections. If aiohttp has changed, the log says so, and only the deadline bounds what is not the body."""
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
    """Ends an answer that is broken, or of which too much is neither body nor framing.

    And a connection on which something comes that was not asked for: aiohttp would keep it as the next call's answer.
    """

    _beside = 0
    _answer: StreamReader | None = None

    def set_response_params(self, **params: Any) -> None:
        """A request begins."""
        self._beside = LARGEST_HEAD + READ_AHEAD
        self._answer = None
        unasked = bool(self._tail)
        super().set_response_params(**params)
        if unasked:
            self._fail(no_http())

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """A head has come, and its body begins."""
        message, body = data
        if message.code >= 200:
            self._answer = body
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if data and self._answer is not None and self._answer.is_eof():
            if self.transport is not None:
                self.transport.abort()
            return
        self._beside -= len(data)
        super().data_received(data)
        if self._beside < 0:
            self._fail(too_much_beside_the_body())
        elif self.exception() is not None:
            self._fail(no_http())

    def _fail(self, error: ServerError) -> None:
        """Nothing more comes. aiohttp would tell only a call that waits for the head."""
        payload = self._payload
        self.set_exception(error)
        if payload is not None and not payload.is_eof():
            payload.set_exception(error)
        if self.transport is not None:
            self.transport.abort()

    def body_received(self, size: int, *, chunk: bool) -> None:
        """*size* bytes were the body, or an end of a *chunk* came with them."""
        self._beside += size + (CHUNK_FRAMING if chunk else 0)
