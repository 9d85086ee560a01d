"""Write the synchronous SDK, sdk/chat_broker_sdk/_sync, from the asynchronous one; --check only compares."""

import io
import re
import subprocess
import sys
import tempfile
import tokenize
from pathlib import Path

SDK = Path(__file__).resolve().parent.parent / "sdk" / "chat_broker_sdk"
SOURCE, TARGET = SDK / "_async", SDK / "_sync"
BY_HAND = {
    "realtime.py"
}  # its synchronous twin, chat_broker_sdk/_sync_socket.py, is a thread around it

NAMES = {
    "AsyncChatClient": "ChatClient",
    "AsyncChatSocket": "ChatSocket",
    "AsyncRawResponse": "RawResponse",
    "AsyncIterator": "Iterator",
    "AsyncHTTPTransport": "HTTPTransport",
    "AsyncBaseTransport": "BaseTransport",
    "AsyncNetworkBackend": "NetworkBackend",
    "AsyncNetworkStream": "NetworkStream",
    "HttpxTransport": "SyncHttpxTransport",
    "Transport": "SyncTransport",
    "handle_async_request": "handle_request",
    "aiter_raw": "iter_raw",
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
}
LINES = [
    (r"from \.realtime import", "from chat_broker_sdk._sync_socket import"),
    (r"Callable\[P, Awaitable\[T\]\]", "Callable[P, T]"),
    (r"from collections\.abc import Awaitable, Callable", "from collections.abc import Callable"),
    (r"await self\._socket\.disconnect\(\)", "self._socket.close()"),
]
DROPPED = {"async", "await"}


def synchronous(source: str) -> str:
    """The text of a module without async, await and asynchronous names; comments and spacing stay."""
    for pattern, replacement in LINES:
        source = re.sub(pattern, replacement, source)
    lines = source.splitlines(keepends=True)
    edits: list[tuple[int, int, int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        (row, start), (_, end) = token.start, token.end
        if token.type == tokenize.NAME:
            if token.string in DROPPED:
                rest = lines[row - 1][end:]
                edits.append((row, start, end + len(rest) - len(rest.lstrip(" ")), ""))
            elif (name := _name(token.string)) != token.string:
                edits.append((row, start, end, name))
        elif token.type == tokenize.STRING and token.start[0] == token.end[0]:
            edits.append((row, start, end, _prose(token.string)))
        elif token.type == tokenize.STRING:
            for number in range(token.start[0], token.end[0] + 1):
                line = lines[number - 1].rstrip("\n")
                edits.append((number, 0, len(line), _prose(line)))
    for row, start, end, text in sorted(edits, reverse=True):
        line = lines[row - 1]
        lines[row - 1] = line[:start] + text + line[end:]
    return "".join(lines)


def _name(name: str) -> str:
    if name in NAMES:
        return NAMES[name]
    if name.startswith("Async"):
        return name.removeprefix("Async")
    return name.removeprefix("async_")


def _prose(text: str) -> str:
    """Docstrings and quoted annotations: the same names, and `await` of examples."""
    text = re.sub(
        r"\b(?:Async\w+|aclose|HttpxTransport|handle_async_request)\b", lambda m: _name(m[0]), text
    )
    return re.sub(r"\b(?:await|async) (?=[a-z(])", "", text)


def generate(target: Path) -> None:
    """Write all modules into *target*, formatted."""
    target.mkdir(exist_ok=True)
    for module in sorted(SOURCE.glob("*.py")):
        if module.name in BY_HAND:
            continue
        text = synchronous(module.read_text())
        if module.name == "__init__.py":
            text = '"""The synchronous client. Generated from `_async` by scripts/unasync.py; not edited."""\n'
        (target / module.name).write_text(text)
    ruff = Path(sys.executable).with_name("ruff")
    config = ["--config", str(SDK.parent.parent / "pyproject.toml")]
    for command in (["check", "--fix", "--quiet", "--select", "I,F401"], ["format", "--quiet"]):
        subprocess.run(
            [str(ruff), *command, *config, "--no-cache", *map(str, sorted(target.glob("*.py")))],
            check=True,
            cwd=SDK.parent.parent,
        )


def differences() -> list[str]:
    """The names of modules in _sync that are not what _async makes of them."""
    with tempfile.TemporaryDirectory(dir=SDK) as folder:
        fresh = Path(folder)
        generate(fresh)
        expected = {path.name: path.read_text() for path in fresh.glob("*.py")}
    present = {path.name: path.read_text() for path in TARGET.glob("*.py")}
    return sorted(
        name for name in expected.keys() | present.keys() if expected.get(name) != present.get(name)
    )


def main() -> int:
    """Generate, or with --check compare; 1 if the committed modules are stale."""
    if "--check" in sys.argv[1:]:
        stale = differences()
        for name in stale:
            print(
                f"sdk/chat_broker_sdk/_sync/{name} is not what _async makes of it: run scripts/unasync.py"
            )
        return 1 if stale else 0
    generate(TARGET)
    return 0


if __name__ == "__main__":
    sys.exit(main())
