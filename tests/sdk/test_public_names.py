"""What may be imported is a promise."""

import subprocess
import sys

import chat_broker_sdk


def test_every_public_name_is_listed() -> None:
    """A name without an underscore is a promise, so it is in __all__."""
    modules = {"conformance", "testing"}  # imported by their own names
    public = [name for name in vars(chat_broker_sdk) if name[0] != "_" and name not in modules]
    assert sorted(public) == sorted(chat_broker_sdk.__all__)


def test_importing_the_sdk_loads_no_http_library() -> None:
    """Start-up is light: httpx, aiohttp and Socket.IO come when they are used."""
    program = (
        "import sys, chat_broker_sdk; chat_broker_sdk.AsyncChatClient('https://h', api_key='k', transport=object());"
        "print([m for m in ('httpx', 'aiohttp', 'socketio', 'pydantic', 'fastapi', 'pytest') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_both_clients_offer_the_same() -> None:
    """The synchronous client has every resource and every call of the asynchronous one."""

    def calls(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert calls(chat_broker_sdk.ChatClient) - {"close"} == calls(
        chat_broker_sdk.AsyncChatClient
    ) - {"aclose"}
    for resource in ("users", "rooms", "messages", "auth"):
        one = chat_broker_sdk.AsyncChatClient("https://h", api_key="k", transport=_Nothing())
        two = chat_broker_sdk.ChatClient("https://h", api_key="k", transport=_Nothing())
        assert calls(type(getattr(one, resource))) == calls(type(getattr(two, resource)))
        assert calls(type(one.socket)) == calls(type(two.socket)) - {"close"}


class _Nothing:
    def send(self, request: object, *, timeout: float) -> chat_broker_sdk.Response:
        raise AssertionError
