"""Instants as text: RFC 3339, section 5.6, and nothing else of what ISO 8601 has."""

import re
import time
from datetime import UTC, datetime, timedelta

_DATE_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))",
    re.ASCII,
)
_LEAP = (23, 59)


def parse_instant(text: str) -> datetime:
    """The moment in UTC. Raises ValueError for what is no date-time of RFC 3339, and for a year that Python lacks.

    The offset is needed: an instant without one is another in each time zone. 23:59:60, a leap second of UTC, is the
    second after it, as clocks of computers count. Fractions are cut off behind microseconds.
    """
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        raise ValueError("not a date-time of RFC 3339")
    date, hour, minute, second, fraction, sign, hours, minutes = found.groups()
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


def to_utc(text: str) -> str:
    """*text* in UTC with milliseconds and `Z`, as all of ours are: they sort as text. Raises ValueError."""
    moment = parse_instant(text).astimezone(UTC).replace(tzinfo=None)
    return f"{moment.isoformat(timespec='milliseconds')}Z"


def instant(seconds: float | None = None) -> str:
    """RFC 3339 in UTC with milliseconds, of an epoch time (default: now). Sorts as text."""
    moment = datetime.fromtimestamp(time.time() if seconds is None else seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
