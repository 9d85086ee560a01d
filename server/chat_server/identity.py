"""New ids and present instants."""

import os
import time
from datetime import UTC, datetime


def new_id() -> str:
    """A fresh UUIDv7 (RFC 9562): 74 random bits or so, and it sorts by the time it was made."""
    now = time.time_ns()
    milliseconds, rest = divmod(now, 1_000_000)
    # Method 3 of RFC 9562, 6.2: twelve bits of sub-millisecond time keep the order within one.
    fraction = rest * 4096 // 1_000_000
    random = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    digits = f"{milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0x2 << 62 | random:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def instant(epoch: float | None = None) -> str:
    """RFC 3339 text in UTC with milliseconds, of *epoch* seconds or of now; sorts by time."""
    moment = datetime.fromtimestamp(time.time() if epoch is None else epoch, UTC)
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"
