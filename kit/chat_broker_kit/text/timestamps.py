"""Timestamps as text in RFC 3339, section 5.6. Other forms of ISO 8601 are refused."""

import re
import time
from datetime import UTC, datetime, timedelta

_DATE_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))",
    re.ASCII,
)
_LEAP = (23, 59)


def parse_timestamp(text: str) -> datetime:
    """The time in UTC. Raises ValueError for anything but a date-time of RFC 3339 in the years 1 to 9999.

    The offset is required. 23:59:60 UTC, a leap second, is read as the next second. Fractions are truncated to
    microseconds.
    """
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        raise ValueError("not a date-time of RFC 3339")
    date, hour, minute, second, fraction, sign, hours, minutes = match.groups()
    is_leap = second == "60"
    microseconds = (fraction or "")[:6].ljust(6, "0")
    moment = datetime.fromisoformat(
        f"{date}T{hour}:{minute}:{'59' if is_leap else second}.{microseconds}+00:00"
    )
    try:
        if sign is not None:
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            moment = moment - offset if sign == "+" else moment + offset
        if not is_leap:
            return moment
        if (moment.hour, moment.minute) != _LEAP:
            raise ValueError("a leap second comes at 23:59:60 UTC alone")
        return moment + timedelta(seconds=1)
    except OverflowError:
        raise ValueError("a year before 1 or after 9999") from None


def normalize_timestamp(text: str) -> str:
    """*text* in UTC with milliseconds and `Z`, as `format_timestamp` writes it. Raises ValueError."""
    moment = parse_timestamp(text).astimezone(UTC).replace(tzinfo=None)
    return f"{moment.isoformat(timespec='milliseconds')}Z"


def format_timestamp(seconds: float | None = None) -> str:
    """Epoch *seconds* (None: now) in RFC 3339, in UTC with milliseconds and `Z`. Sorts as text."""
    moment = datetime.fromtimestamp(time.time() if seconds is None else seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
