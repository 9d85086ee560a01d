"""Where frontends open their sockets."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from chat_broker.chat.views import SocketServer
from chat_broker.errors import BadInput
from chat_broker.http.client_address import Proxies


class Sockets:
    """Knows the address to give out: a fixed one, or the origin a request came to.

    Socket.IO takes the path of a URL for a namespace, so a path of the fixed address goes before *socket_path*.
    """

    def __init__(self, proxies: Proxies, socket_path: str, fixed: str | None) -> None:
        self._proxies = proxies
        self._path = socket_path
        self._fixed: SocketServer | None = None
        if fixed is not None:
            parts = urlsplit(fixed)
            origin = f"{parts.scheme}://{parts.netloc}"
            self._fixed = SocketServer(origin, parts.path.rstrip("/") + socket_path)

    def of(self, scope: Mapping[str, Any]) -> SocketServer:
        """The address for the client of this request. Raises BadInput for a Host that is none."""
        if self._fixed is not None:
            return self._fixed
        url = self._proxies.origin(scope)
        if url is None:
            raise BadInput("bad_host", "The Host header of this request is not a host.")
        return SocketServer(url, self._path)


def sockets_for(scope: Mapping[str, Any]) -> SocketServer:
    """Where the client of this request opens sockets. Raises BadInput for a Host that is none."""
    sockets: Sockets = scope["app"].state.sockets
    return sockets.of(scope)
