"""Packets and calls, taken apart and put together: pure."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from socketio.packet import Packet

from chat_broker_kit.logs.sampling import SampledLog
from chat_broker_kit.token_bucket import TokenBucket
from chat_broker_server.errors import ChatError
from chat_broker_server.realtime import packets, requests

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(name=TEXT, arguments=st.lists(VALUES, max_size=3), number=st.none() | st.integers(0, 10**14))
def test_what_the_library_writes_is_read(
    name: str, arguments: list[Any], number: int | None
) -> None:
    """Another implementation of the protocol is understood."""
    text = Packet(2, data=[name, *arguments], namespace="/", id=number).encode()
    assert packets.read(text) == packets.ClientPacket("event", number, [name, *arguments])


@given(st.text(max_size=200) | st.binary(max_size=50))
def test_anything_else_is_one_of_two_errors(data: str | bytes) -> None:
    try:
        frame = packets.read(data)
    except (packets.ProtocolError, packets.BadArgumentsError):
        return
    assert frame.kind in {"connect", "disconnect", "event"}


@given(VALUES)
def test_what_is_written_is_read_by_the_library(value: Any) -> None:
    payload = json.dumps(value, ensure_ascii=False).encode()
    text = packets.event("message", payload).encode()
    assert text[0] == "4"
    packet = Packet(encoded_packet=text[1:])
    assert (packet.packet_type, packet.data) == (2, ["message", value])
    packet = Packet(encoded_packet=packets.acknowledgement(7, payload).encode()[1:])
    assert (packet.packet_type, packet.id, packet.data) == (3, 7, [value])


@pytest.mark.parametrize("size", [0, 1, 100, 124, 125, 126, 65_534, 65_535, 65_536, 200_000])
def test_the_websocket_frame_is_what_a_websocket_library_reads(size: int) -> None:
    """Each of the three ways to write a length, and its edges."""
    from websockets.client import ClientProtocol
    from websockets.frames import Frame, Opcode
    from websockets.protocol import OPEN
    from websockets.uri import parse_uri

    reader = ClientProtocol(parse_uri("ws://x/"), state=OPEN, max_size=None)
    ready = packets.EncodedPacket(b"x" * size)
    reader.receive_data(ready.frame)
    (frame,) = reader.events_received()
    assert isinstance(frame, Frame)
    assert (frame.opcode, frame.fin, bytes(frame.data)) == (Opcode.TEXT, True, b"4" + b"x" * size)
    assert ready.encode().encode() == bytes(frame.data)


@given(st.sampled_from(sorted(requests._EVENTS)), st.lists(VALUES, max_size=3))
def test_any_arguments_are_a_call_or_an_error_that_says_what_was_expected(
    name: str, arguments: list[Any]
) -> None:
    outcome: object
    try:
        outcome = requests.read(name, arguments)
    except ChatError as error:
        outcome = (error.code, error.message.partition(" ")[0])
    assert isinstance(outcome, requests.ClientEvent) or outcome == ("invalid_arguments", "Expected")


def test_a_token_is_not_shown_by_its_call() -> None:
    assert "secret" not in repr(requests.read("refreshToken", [{"token": "secret"}]))


def test_an_allowance_is_a_burst_and_a_rate() -> None:
    allowance = TokenBucket(10, 3, now=0.0)
    assert [allowance.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert not allowance.take(0.05)
    assert allowance.take(0.2)
    assert [allowance.take(100.0) for _ in range(4)] == [True, True, True, False]


def test_sampled_lines_say_how_many_were_kept_back() -> None:
    import logging

    lines: list[str] = []

    class Sink(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    log = logging.Logger("test")  # noqa: LOG001  # this test's alone
    log.addHandler(Sink())
    now = 0.0
    sampled = SampledLog(log, burst=2, clock=lambda: now)
    for _ in range(1000):
        sampled.warning("bad", "frame")
    now = 61.0
    sampled.warning("bad", "frame")
    assert lines == ["bad frame", "bad frame", "bad: 998 more lines were left out", "bad frame"]


@pytest.mark.parametrize(("number", "whole"), [(1.0, 1), (1e3, 1000), (0.0, 0), (1, 1)])
def test_a_number_without_a_fraction_is_whole(number: float, whole: int) -> None:
    """JSON has one kind of numbers."""
    assert requests.read("markRead", [{"roomId": "r", "seq": number}]) == requests.MarkRead(
        "r", whole
    )
    assert requests.read("joinRoom", [{"roomId": "r", "sinceSeq": number}]) == requests.Join(
        "r", whole
    )


@pytest.mark.parametrize("number", [1.5, 1e308, -1.0, True, "1"])
def test_any_other_number_is_refused(number: object) -> None:
    with pytest.raises(requests.InvalidArguments):
        requests.read("markRead", [{"roomId": "r", "seq": number}])
