"""Ids and instants: unique, in order, and as the standards spell them."""

import re
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from chat_broker_kit.text.random_hex import random_hex
from chat_broker_server.chat.ids import new_id, timestamp


def test_an_id_is_a_uuid_of_version_7_and_of_now() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(new_id())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000
    assert str(made) == str(made).lower()


def test_ids_of_many_threads_are_all_different() -> None:
    with ThreadPoolExecutor(8) as pool:
        lists = list(pool.map(lambda _: [new_id() for _ in range(2000)], range(8)))
    assert len({one for ids in lists for one in ids}) == 16_000
    for ids in lists:
        ages = [one[:18] for one in ids]  # time down to a quarter of a microsecond
        assert ages == sorted(ages)


def test_random_texts_are_long_and_never_repeat() -> None:
    """128 random bits each, also for many threads, and in a process that was forked off."""
    with ThreadPoolExecutor(8) as pool:
        texts = [one for made in pool.map(lambda _: [random_hex() for _ in range(2000)], range(8)) for one in made]  # fmt: skip
    assert len(set(texts)) == 16_000
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in texts)
    script = (
        "import os; from chat_broker_kit.text.random_hex import random_hex; random_hex(); child = not os.fork();"
        "os.write(1, (random_hex() + ' ').encode()); child or os.wait()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert len(set(done.stdout.split())) == 2


def test_a_timestamp_is_the_utc_time_in_milliseconds() -> None:
    for epoch, text in (
        (0, "1970-01-01T00:00:00.000Z"),
        (1_764_000_000.25, "2025-11-24T16:00:00.250Z"),
        (1_764_000_000, "2025-11-24T16:00:00.000Z"),
        (253_402_300_799, "9999-12-31T23:59:59.000Z"),
    ):
        assert timestamp(epoch) == text
    now = datetime.fromisoformat(timestamp())
    assert abs((datetime.now(UTC) - now).total_seconds()) < 5
