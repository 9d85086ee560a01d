"""JSON that means one thing: what is refused, and that nothing good is."""

import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_broker_kit.strict_json import NotStrictJson, check, parse, parse_object

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
    assert parse(raw) == json.loads(raw)


@given(st.binary(max_size=200))
def test_bytes_never_crash_it(raw: bytes) -> None:
    """A value or NotStrictJson, and never anything else."""
    with suppress(NotStrictJson):
        check(parse(raw))
    with suppress(NotStrictJson):
        parse(raw, unstored=True)


@given(GOOD_TEXT, GOOD_TEXT, VALUES)
def test_a_key_given_twice_is_refused_however_it_is_spelt(key: str, text: str, value: Any) -> None:
    """Also when colons and quotes stand inside the strings, or one spelling is escaped."""
    plain, escaped = json.dumps(key, ensure_ascii=False), json.dumps(key)
    spelt = "".join(f"\\u{ord(char):04x}" for char in key if ord(char) < 0x10000)
    for other in (plain, escaped, f'"{spelt}"' if all(ord(c) < 0x10000 for c in key) else plain):
        raw = f'{{{plain}: {json.dumps(text)}, "x:": [{json.dumps(value)}], {other}: "a:b"}}'
        if key == "x:":
            continue
        with pytest.raises(NotStrictJson, match="twice"):
            parse(raw.encode())


@pytest.mark.parametrize("code", range(0x20))
def test_no_control_character_comes_without_an_escape(code: int) -> None:
    """So text is looked through only where there is an escape."""
    for raw in (b'"%c"', b'{"%c": 1}', b'{"a": ["%c"]}'):
        with pytest.raises(NotStrictJson):
            parse(raw % code)


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
    with pytest.raises(NotStrictJson, match=r"^(is|has) ") as caught:
        parse(raw)
    assert 10 < len(str(caught.value)) < 120


def test_the_limits_themselves_are_good() -> None:
    """32 levels, and integers up to 2^53."""
    assert parse(b"[" * 32 + b"]" * 32)
    assert parse(b"9007199254740992") == 2**53
    assert parse(b'"\\t\\n\\r"') == "\t\n\r"
    assert parse(b'{"a:b": "c:d", "\\":": "::"}') == {"a:b": "c:d", '":': "::"}


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800", "\x00", object(), {"a": b""}])
def test_a_value_that_was_parsed_elsewhere_is_judged_too(value: Any) -> None:
    """Sockets parse by themselves, and ask afterwards."""
    with pytest.raises(NotStrictJson):
        check(value)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":2}',
        b'{"a" :1 ,"\\u0061" : 2}',
        b'{"a":"\\u003a","a":""}',
        b'{"a":"\\u003A:","b":{"x":":","x":1}}',
        b'{"\\u003a":1,":":2}',
        b'[{"a":":"},{"a":1,"a":{}}]',
        b'{"a":{"b":1},"a":1}',
        b'{"":1,"":":"}',
        b'{"a:":1,"a:":2}',
        b'{"a\\\\":1,"a\\\\":2}',
    ],
)
def test_colons_in_texts_hide_no_key_given_twice(raw: bytes) -> None:
    """However a colon is spelt, and whatever the value that the second key replaced."""
    for unstored in (False, True):
        with pytest.raises(NotStrictJson, match="twice"):
            parse(raw, unstored=unstored)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":"\\u003a","b":":"}',
        b'{"\\u003a":"\\u003A","a":{"b":"\\\\u003a"}}',
        b'{"a:b":["c:d",{":":":::"}]}',
        b'{"a":"\\":"}',
        b'{"url":"https://example.com:80/\\n"}',
    ],
)
def test_colons_in_texts_are_no_keys(raw: bytes) -> None:
    """An object whose keys differ is read, whatever its texts hold."""
    for unstored in (False, True):
        assert parse(raw, unstored=unstored) == json.loads(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"9007199254740993",
        b"-123456789012345678901234567890",
        b'"\\u0000"',
        b'{"a\\u001b":["\\u0007"]}',
    ],
)
def test_what_nobody_stores_may_hold_any_integer_and_control_character(raw: bytes) -> None:
    """In a claim that nobody reads they hurt nobody; stored, no two databases agree about them."""
    assert parse(raw, unstored=True) == json.loads(raw)
    with pytest.raises(NotStrictJson):
        parse(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"NaN",
        b'{"exp":1e999}',
        b'"\\ud800"',
        b'"\\uDC00x"',
        b"\xef\xbb\xbf{}",
        b'"\xff"',
        b"[" * 33 + b"]" * 33,
        b"1" * 5000,
        b"1 2",
    ],
)
def test_what_nobody_stores_must_mean_one_thing_too(raw: bytes) -> None:
    """Two readers of one token must not see different claims."""
    with pytest.raises(NotStrictJson):
        parse(raw, unstored=True)


@pytest.mark.parametrize("raw", [b"[]", b"1", b"null", b'"{}"'])
def test_an_object_is_an_object(raw: bytes) -> None:
    with pytest.raises(NotStrictJson, match="object"):
        parse_object(raw)
