"""Instants as clients may write them: RFC 3339, section 5.6."""

from datetime import UTC, datetime

import pytest

from chat_broker_kit.text.timestamps import normalize_timestamp, parse_timestamp


@pytest.mark.parametrize(
    ("text", "in_utc"),
    [
        ("2026-12-01T10:00:00Z", "2026-12-01T10:00:00.000Z"),
        ("2026-12-01T10:00:00z", "2026-12-01T10:00:00.000Z"),
        ("2026-12-01t10:00:00Z", "2026-12-01T10:00:00.000Z"),
        ("2026-12-01T10:00:00+02:00", "2026-12-01T08:00:00.000Z"),
        ("2026-12-01T10:00:00-00:00", "2026-12-01T10:00:00.000Z"),
        ("2026-12-31T23:30:00-23:59", "2027-01-01T23:29:00.000Z"),
        ("2026-12-01T10:00:00.5Z", "2026-12-01T10:00:00.500Z"),
        ("2026-12-01T10:00:00.123999999999Z", "2026-12-01T10:00:00.123Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000Z"),
        ("2026-12-01T23:59:60Z", "2026-12-02T00:00:00.000Z"),
        ("2026-12-31T23:59:60Z", "2027-01-01T00:00:00.000Z"),
        ("1990-12-31T15:59:60-08:00", "1991-01-01T00:00:00.000Z"),
        ("1998-12-31T23:59:60.5Z", "1999-01-01T00:00:00.500Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000Z"),
    ],
)
def test_every_date_time_of_the_standard_is_read(text: str, in_utc: str) -> None:
    """Either case, any offset, any fraction, a leap second; ours are in UTC with milliseconds."""
    assert normalize_timestamp(text) == in_utc


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-12-01T10:00:00",
        "2030-01-01",
        "2030-W01-1",
        "2030-W01-1T10:00:00Z",
        "2026-335T10:00:00Z",
        "20261201T100000Z",
        "2026-12-01 10:00:00Z",
        "2026-12-01T10:00Z",
        "2026-12-01T10:00:00+0200",
        "2026-12-01T10:00:00+02",
        "2026-12-01T10:00:00+02:00:00",
        "2026-12-01T10:00:00+24:00",
        "2026-12-01T10:00:00+01:60",
        "2026-12-01T10:00:00Z+01:00",
        "2026-12-01T10:00:00 Z",
        "2026-12-01T10:00:00,5Z",
        "2026-12-01T10:00:00.Z",
        "2026-12-01T24:00:00Z",
        "2026-12-01T10:60:00Z",
        "2026-12-01T10:00:61Z",
        "2026-12-01T10:00:60Z",
        "2026-12-01T23:59:60+01:00",
        "2026-02-29T10:00:00Z",
        "2026-13-01T10:00:00Z",
        "2026-00-01T10:00:00Z",
        "2026-1-01T10:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:60Z",
        "+12026-12-01T10:00:00Z",
        "２026-12-01T10:00:00Z",
        "2026-12-01T10:00:00Z\n",
        "1764583200",
        "now",
    ],
)
def test_nothing_else_is(text: str) -> None:
    """No date alone, no week, no day of a year, no instant without offset, nothing that ISO 8601 has besides."""
    with pytest.raises(ValueError, match=r"."):
        parse_timestamp(text)


def test_what_is_read_is_in_utc() -> None:
    moment = parse_timestamp("2026-12-01T10:00:00.000001-05:00")
    assert moment == datetime(2026, 12, 1, 15, 0, 0, 1, UTC)
    assert moment.tzinfo is UTC
