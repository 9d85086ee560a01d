"""The manual is true: its examples run, and its table leaves nothing of the TypeScript SDK out."""

import ast
import asyncio
import contextlib
import inspect
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import chat_broker_sdk
from chat_broker_sdk import ChatClient
from tests.programs import run_command, running_server

ROOT = Path(__file__).resolve().parents[2]
MANUAL = (ROOT / "docs/sdk.md").read_text()

# What the TypeScript SDK's README promises, by name.
PROMISED = [
    "apiKey",
    "jwtToken",
    "baseUrl",
    "setBaseUrl",
    "setJwtToken",
    "users.create",
    "users.list",
    "users.get",
    "users.update",
    "users.generateToken",
    "users.revokeToken",
    "users.delete",
    "rooms.list",
    "rooms.create",
    "rooms.get",
    "rooms.join",
    "rooms.leave",
    "rooms.update",
    "rooms.delete",
    "messages.list",
    "messages.create",
    "messages.delete",
    "auth.verify",
    "socket.connect",
    "socket.disconnect",
    "socket.joinRoom",
    "socket.leaveRoom",
    "socket.sendMessage",
    "socket.startTyping",
    "socket.stopTyping",
    "socket.onMessage",
    "socket.onUserJoined",
    "socket.onUserLeft",
    "socket.onUserTyping",
    "socket.onUserStoppedTyping",
    "socket.onError",
    "socket.onConnect",
    "socket.onDisconnect",
    "username",
    "external_user_id",
    "display_name",
    "email",
    "status",
    "created_by",
    "content",
    "user_id",
    "page",
    "limit",
    "items",
    "total",
    "totalPages",
    "token",
    "userId",
    "AuthenticationError",
    "NotFoundError",
    "ValidationError",
    "ConflictError",
    "ServerError",
    "NetworkError",
    "WebSocketError",
    "ChatUser",
    "Room",
    "Message",
    "CreateUserInput",
    "CreateRoomInput",
    "CreateMessageInput",
    "UpdateRoomInput",
    "PaginatedResponse",
    "PaginationParams",
    "ChatClientOptions",
]


def examples(text: str) -> list[tuple[int, str]]:
    """Each Python example with the line it starts on."""
    return [
        (text[: found.start(1)].count("\n"), found[1])
        for found in re.finditer(r"```python\n(.*?)```", text, re.DOTALL)
    ]


async def perform(name: str, text: str) -> None:
    """Run the examples of a page one after the other, in one namespace, as a reader would."""
    namespace: dict[str, object] = {}
    for line, source in examples(text):
        code = compile(
            "\n" * line + source,
            name,
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        result = eval(code, namespace)  # noqa: S307 - our own page
        if inspect.isawaitable(result):
            await result
    client = namespace.get("client")
    if isinstance(client, chat_broker_sdk.AsyncChatClient):
        await client.aclose()


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch):
    folder = Path(tempfile.mkdtemp())
    code, out, err = await run_command(
        "chat-server", "create-project", "--name", "docs", environment={"DATA_DIR": str(folder)}
    )
    assert code == 0, err
    async with running_server(folder) as program:
        monkeypatch.setenv("CHAT_API_KEY", out.strip().splitlines()[-1])
        monkeypatch.setenv("CHAT_BASE_URL", program.url)
        yield program


async def test_every_example_of_the_manual_runs(server: object) -> None:
    assert len(examples(MANUAL)) >= 15
    await perform("docs/sdk.md", MANUAL)


async def test_the_example_of_the_package_page_runs(server: object) -> None:
    text = (ROOT / "sdk/README.md").read_text()
    source = examples(text)[0][1]
    await asyncio.to_thread(exec, compile(source, "sdk/README.md", "exec"), {})


def rows() -> Iterator[tuple[str, str]]:
    table = MANUAL.partition("## From TypeScript")[2]
    for line in table.splitlines():
        if line.startswith("| `"):
            left, right = line.strip("| ").split(" | ")
            yield left, right


def test_the_table_leaves_nothing_out() -> None:
    left = " ".join(each for each, _ in rows())
    missing = [name for name in PROMISED if not re.search(rf"\b{re.escape(name)}\b", left)]
    assert missing == []


@pytest.mark.parametrize(("left", "right"), list(rows()), ids=lambda text: text[:60])
def test_a_line_of_the_table_is_a_call_that_exists(left: str, right: str) -> None:
    """Each Python form names something real, and its arguments fit."""
    forms = re.findall(r"`([^`]+)`", right)
    assert forms or right == "keyword arguments"
    client = ChatClient("https://chat.example.com", api_key="k")
    names = {**vars(chat_broker_sdk), "client": client, "callback": print}
    for form in forms:
        tree = ast.parse(form, mode="eval").body
        target = tree.func if isinstance(tree, ast.Call) else tree
        found = eval(compile(ast.Expression(target), "table", "eval"), names)  # noqa: S307
        if isinstance(tree, ast.Call):
            given = [ast.unparse(each) for each in tree.args]
            named = {each.arg: None for each in tree.keywords if each.arg}
            inspect.signature(found).bind(*given, **named)
    snake = [
        re.sub(r"(?<=[a-z])([A-Z])", r"_\1", name).lower()
        for name in re.findall(r"client\.(?:\w+\.)?(\w+)\(", left)
    ]
    assert all(name in right for name in snake)
    with contextlib.suppress(RuntimeError):
        client.close()


def test_every_public_call_is_in_the_manual() -> None:
    client = ChatClient("https://chat.example.com", api_key="k")
    for resource in ("users", "rooms", "messages", "auth", "socket"):
        for name in dir(getattr(client, resource)):
            if not name.startswith("_") and name != "close":
                assert name in MANUAL, f"{resource}.{name}"
    for name in chat_broker_sdk.__all__:
        kind = getattr(chat_broker_sdk, name)
        if (
            inspect.isclass(kind)
            and issubclass(kind, chat_broker_sdk.ChatError)
            and name != "ChatError"
        ):
            assert f"`{name}`" in MANUAL
    client.close()
