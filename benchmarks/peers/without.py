"""One of our programs without something of its own: what that is worth, in the same program at the same work.

python benchmarks/peers/without.py header-cache .venv/bin/chat-broker serve

No setting does this. See docs/architecture.md, "Library insides".
"""

import runpy
import sys
from typing import Any


def _without_header_cache() -> None:
    from chat_broker.fast_path.dispatcher import Dispatcher

    made = Dispatcher.__init__

    def make(dispatcher: Dispatcher, *args: Any, **more: Any) -> None:
        made(dispatcher, *args, **more)
        dispatcher.caches_headers = False

    Dispatcher.__init__ = make  # type: ignore[method-assign]


def _without_own_websockets() -> None:
    from chat_broker_server.realtime import uvicorn_takeover

    uvicorn_takeover.is_possible = lambda: False


WITHOUT = {"header-cache": _without_header_cache, "websocket": _without_own_websockets}

if __name__ == "__main__":
    _, what, *sys.argv = sys.argv
    WITHOUT[what]()
    runpy.run_path(sys.argv[0], run_name="__main__")
