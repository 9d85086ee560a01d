"""JSON that means one thing: what is refused, and that nothing good is."""

import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_broker_server.strict_json import NotStrictJSON, check, loads

GOOD_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\t\n\r"))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | GOOD_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(GOOD_TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_good_json_comes_through_unchanged(value: Any, escaped: bool) -> None:
    """Whatever is clean is read as the standard library reads it."""
    raw = json.dumps(value, ensure_ascii=escaped).encode()
    assert loads(raw) == json.loads(raw)


@given(st.binary(max_size=200))
def test_bytes_never_crash_it(raw: bytes) -> None:
    """A value or NotStrictJSON, and never anything else."""
    with suppress(NotStrictJSON):
        check(loads(raw))


@given(GOOD_TEXT, GOOD_TEXT, VALUES)
def test_a_key_given_twice_is_refused_however_it_is_spelt(key: str, text: str, value: Any) -> None:
    """Also when colons and quotes stand inside the strings, or one spelling is escaped."""
    plain, escaped = json.dumps(key, ensure_ascii=False), json.dumps(key)
    spelt = "".join(f"\\u{ord(char):04x}" for char in key if ord(char) < 0x10000)
    for other in (plain, escaped, f'"{spelt}"' if all(ord(c) < 0x10000 for c in key) else plain):
        raw = f'{{{plain}: {json.dumps(text)}, "x:": [{json.dumps(value)}], {other}: "a:b"}}'
        if key == "x:":
            continue
        with pytest.raises(NotStrictJSON, match="twice"):
            loads(raw.encode())


@pytest.mark.parametrize("code", range(0x20))
def test_no_control_character_comes_without_an_escape(code: int) -> None:
    """So text is looked through only where there is an escape."""
    for raw in (b'"%c"', b'{"%c": 1}', b'{"a": ["%c"]}'):
        with pytest.raises(NotStrictJSON):
            loads(raw % code)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"01",
        b"1 2",
        b"[1,]",
        b"'a'",
        b"\xef\xbb\xbf1",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\xc0\x80"',
        b'"\\ud800"',
        b'"\\udc00"',
        b'"\\ud800\\ud800"',
        b'"\\u0000"',
        b'"\\u001b"',
        b'"a\x00b"',
        b'"a\nb"',
        b'{"a\\u0000": 1}',
        b'{"a": 1, "a": 1}',
        b'[{"b": {"a": 1, "a": 2}}]',
        b"9007199254740993",
        b"-9007199254740993",
        b"1" * 5000,
        b"[" * 33 + b"]" * 33,
        b'{"a":' * 33 + b"1" + b"}" * 33,
        b"[" * 65_000,
        b'{"a":' * 10_000,
    ],
)
def test_what_others_would_guess_about_is_refused(raw: bytes) -> None:
    """With a sentence for the sender, and without repeating what was sent."""
    with pytest.raises(NotStrictJSON) as caught:
        loads(raw)
    assert 10 < len(str(caught.value)) < 120


def test_the_limits_themselves_are_good() -> None:
    """32 levels, and integers up to 2^53."""
    assert loads(b"[" * 32 + b"]" * 32)
    assert loads(b"9007199254740992") == 2**53
    assert loads(b'"\\t\\n\\r"') == "\t\n\r"
    assert loads(b'{"a:b": "c:d", "\\":": "::"}') == {"a:b": "c:d", '":': "::"}


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800", "\x00", object(), {"a": b""}])
def test_a_value_that_was_parsed_elsewhere_is_judged_too(value: Any) -> None:
    """Sockets parse by themselves, and ask afterwards."""
    with pytest.raises(NotStrictJSON):
        check(value)
