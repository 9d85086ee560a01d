"""The table of limits for frontends has the numbers of the code."""

import re
from pathlib import Path

import pytest

from chat_broker.settings import Settings
from chat_broker_server.chat import sizes, validation
from chat_broker_server.realtime.limits import Limits
from chat_broker_server.rest.request import BODY_LIMIT

PAGE = Path(__file__).resolve().parents[2] / "docs" / "frontend.md"
LIMITS = Limits()


def rows() -> dict[str, str]:
    """The table's first column, and the number at the start of the second."""
    text = PAGE.read_text().partition("## Limits")[2].partition("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {row[0]: row[1] for row in cells}


@pytest.mark.parametrize(
    ("row", "numbers"),
    [
        ("a message's `content`", [1, 8000]),
        ("`metadata` of a message, room or user", [validation.METADATA_BYTES // 1024]),
        ("a request's body", [BODY_LIMIT // 1024]),
        ("one message over a socket", [LIMITS.message_bytes // 1024]),
        ("`limit` of a list", [sizes.LARGEST_PAGE, 50]),
        ("a list of messages by cursor (`before`, `after`)", [sizes.LARGEST_RESPONSE // 1024]),
        ("`missed` of `joinRoom`", [LIMITS.missed_messages, sizes.LARGEST_RESPONSE // 1024]),
        (
            "events that a socket sends",
            [int(LIMITS.events_per_second), LIMITS.event_burst],
        ),
        ("rooms that a socket has joined", [LIMITS.rooms_per_socket]),
        ("sockets of a user", [LIMITS.sockets_per_user]),
        ("from opening a socket to a good token", [int(LIMITS.auth_deadline)]),
        ("bytes that wait for a socket that reads slowly", [LIMITS.send_queue_bytes]),
        (
            f"a ping without an answer (one every {LIMITS.ping_interval:g} s)",
            [int(LIMITS.ping_timeout)],
        ),
        ("after the end of a token", [int(LIMITS.expiry_grace)]),
        ("a typing state", [int(LIMITS.typing_seconds)]),
    ],
)
def test_a_row_has_the_numbers_of_the_code(row: str, numbers: list[int]) -> None:
    said = [int(number.replace(",", "")) for number in re.findall(r"[0-9][0-9,]*", rows()[row])]
    assert said == numbers


def test_the_limits_of_calls_are_the_default_settings() -> None:
    text = PAGE.read_text().replace("\n", " ")
    for name, of in [
        ("rate_token", "of `/chat/token`"),
        ("rate_write", "that write"),
        ("rate_react", "that react"),
        ("rate_read", "that read"),
        ("rate_ip", "of one address"),
    ]:
        number = int(str(Settings.model_fields[name].default).partition("/")[0])
        assert f"{number:,} {of}" in text
