"""Frames no honest client sends: nothing runs, nothing is printed, everything is counted."""

import json
import logging

import pytest

from chat_broker_server.realtime.limits import Limits
from tests.server.realtime.live_node import LiveNode, running_node
from tests.server.realtime.socket_client import connected, opened

RESERVED = [
    "connect",
    "disconnect",
    "connect_error",
    "disconnecting",
    "*",
    "__class__",
    "newListener",
]
NO_NAME = ["1", "null", "{}", "[]", "true", "1.5"]
MALFORMED = [
    "42",
    "42[]",
    "42{}",
    '42"joinRoom"',
    "4",
    "49[]",
    "42/admin",
    '42/admin,["joinRoom","x"]',
    '45-["a",{"_placeholder":true,"num":0}]',
    '451-["joinRoom",{"_placeholder":true,"num":0}]',
    '459999999999-["joinRoom"]',
    '461-1["x"]',
    '431["ack nobody asked for"]',
    '44{"message":"you are refused"}',
    "42" + "9" * 400 + '["joinRoom","x"]',
    '4²["joinRoom","x"]',
    '4{"a":1}',
    "4[1]",
    "40/admin,{}",
    "4" + "\x00" * 10,
    "bAAAA",
    "x",
    "",
    "9",
    "0{}",
    "2probe",
    "5",
    "6",
    "3probe",
    b"\x04binary",
    b"",
]


@pytest.mark.parametrize("name", [*map(json.dumps, RESERVED), *NO_NAME])
async def test_reserved_and_nameless_events_run_nothing(node: LiveNode, name: str) -> None:
    """Whatever stands where the event's name belongs, the socket stays who it was."""
    alice, mallory = await node.user("alice"), await node.user("mallory")
    room = await node.room(alice, mallory)
    listener = await node.socket(alice, room)
    evil = await node.socket(mallory, room)
    forged = {
        "asgi.scope": {"type": "http"},
        "HTTP_X_USER": "alice",
        "token": await node.token(alice),
    }
    await evil.send(f"42[{name},{json.dumps(forged)},{json.dumps({'token': forged['token']})}]")
    (error,) = await evil.hears("error")
    assert error["code"] == "protocol_error"
    assert node.fact("protocol_errors") == 1
    answer = await evil.call("sendMessage", room.id, "still me")
    assert answer["message"]["user_id"] == mallory.id
    assert (await listener.hears("message"))[0]["username"] == "mallory"
    assert node.fact("sockets_authenticated") == 2


@pytest.mark.parametrize("frame", MALFORMED, ids=range(len(MALFORMED)))
async def test_a_malformed_frame_is_counted_and_survived(
    node: LiveNode, frame: str | bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """One bad frame costs an error event, not the connection, and prints no traceback."""
    alice = await node.user("alice")
    room = await node.room(alice)
    socket = await node.socket(alice, room)
    await socket.send(frame)
    assert (await socket.hears("error"))[0]["code"] == "protocol_error"
    assert (await socket.call("sendMessage", room.id, "hello"))["ok"]
    assert node.fact("protocol_errors") == 1
    assert "Traceback" not in "".join(capfd.readouterr())


async def test_the_third_protocol_error_ends_the_connection(node: LiveNode) -> None:
    """An error event says why, then the server hangs up."""
    socket = await node.socket(await node.user("alice"))
    for _ in range(3):
        await socket.send('42["connect",{}]')
    await socket.ends()
    last = socket.payloads("error")[-1]
    assert last["code"] == "protocol_error"
    assert last["reconnect"] is False
    assert socket.said_goodbye


async def test_a_flood_of_bad_frames_writes_few_lines(
    database_url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Four thousand bad frames leave less than a hundred lines."""
    limits = Limits(protocol_errors=1_000_000)
    caplog.set_level(logging.DEBUG)
    logging.getLogger("websockets").setLevel(logging.WARNING)
    async with running_node(database_url, limits=limits) as node:
        alice = await node.user("alice")
        socket = await node.socket(alice)
        caplog.clear()
        for number in range(4_000):
            await socket.send(MALFORMED[number % len(MALFORMED)])
        await socket.hears("error", 4_000, within=90)
        assert node.fact("protocol_errors") == 4_000
    assert (
        len([record for record in caplog.records if record.name.startswith("chat_broker_server")])
        < 100
    )
    assert len("".join(capfd.readouterr()).splitlines()) < 100


async def test_another_namespace_is_refused_by_name(node: LiveNode) -> None:
    """A client that connects to a namespace we do not have is told so, and stays in ours."""
    alice = await node.user("alice")
    async with connected(node.url, await node.token(alice)) as socket:
        await socket.send("40/admin,{}")
        await socket.until(lambda: socket.refused)
        assert socket.refused is not None
        assert socket.refused["data"]["code"] == "unknown_namespace"
        await socket.quiet()


async def test_events_before_the_token_are_protocol_errors(node: LiveNode) -> None:
    """Nothing is answered to a stranger; the third attempt ends the connection."""
    async with opened(node.url) as socket:
        for _ in range(3):
            await socket.send('421["joinRoom","x"]')
        await socket.ends()
        assert socket.heard == []
        assert socket.refused is not None
    assert node.fact("events_in") == 0


async def test_strict_json_holds_on_the_socket_too(node: LiveNode) -> None:
    """What REST refuses as JSON, a socket refuses as arguments."""
    alice = await node.user("alice")
    room = await node.room(alice)
    socket = await node.socket(alice, room)
    bad = [
        '{"roomId":"ROOM","content":"a","content":"b"}',
        '{"roomId":"ROOM","content":"\\u0000"}',
        '{"roomId":"ROOM","content":"\\ud800"}',
        '{"roomId":"ROOM","content":"a","metadata":{"n":NaN}}',
        '{"roomId":"ROOM","content":"a","metadata":{"n":1e999}}',
        '{"roomId":"ROOM","content":"a","metadata":{"n":9007199254740993}}',
        '{"roomId":"ROOM","content":"a","metadata":' + '{"a":' * 40 + "1" + "}" * 41,
        '{"roomId":"ROOM","content":"a"}, junk',
    ]
    for number, arguments in enumerate(bad, 1000):
        answer = await socket.call_text(
            number, f'["sendMessage",{arguments.replace("ROOM", room.id)}]'
        )
        assert answer["ok"] is False, arguments
        assert answer["error"]["code"] == "invalid_arguments", answer
    assert node.fact("protocol_errors") == 0
    assert (await node.chat.get_room("project-1", room.id)).last_seq == 0


async def test_a_frame_over_the_limit_is_not_read(node: LiveNode) -> None:
    """64 KiB is the end, as over REST."""
    socket = await node.socket(await node.user("alice"))
    await socket.send('42["joinRoom","' + "x" * 70_000 + '"]')
    await socket.ends()
