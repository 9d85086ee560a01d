"""HTTP connections that do not wait for ever: uvicorn bounds neither how slowly nor how long a head may come."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_SECONDS = 10.0
BODY_SECONDS_LEFT = 2.0
LARGEST_HEAD = 48 * 1024
"""Above what the edge refuses with a proper answer, so that this one is for floods alone."""

_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedHeadProtocol(HttpToolsProtocol):
    """uvicorn's protocol, but a request's head has 10 s and 48 KiB to come in, and then the connection ends.

    Idle connections between two requests are uvicorn's own concern (`timeout_keep_alive`).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A head is awaited from the first moment."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Count what belongs to an unfinished head."""
        super().data_received(data)
        if self._head_timer is not None and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > LARGEST_HEAD:
                self._end(_TOO_LARGE)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Told to stop: what is being answered is finished, but a body still on its way gets two seconds."""
        super().shutdown()
        busy: RequestResponseCycle | None = self.cycle
        if busy is not None and not busy.response_complete and busy.more_body:
            self.loop.call_later(BODY_SECONDS_LEFT, self._give_up_on, busy)

    def _give_up_on(self, cycle: RequestResponseCycle) -> None:
        if cycle is self.cycle and cycle.more_body and not cycle.response_complete:
            self.transport.abort()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_bytes = 0
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._end, _TOO_SLOW)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end(self, answer: bytes) -> None:
        self._stop_waiting()
        if self.transport.is_closing():
            return
        # A pipelined head may dawdle while the request before it is being answered: say nothing then.
        busy: RequestResponseCycle | None = self.cycle
        if busy is None or busy.response_complete:
            self.transport.write(answer)
        self.transport.close()
