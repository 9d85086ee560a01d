"""Sampled log lines: a stranger cannot fill the log, nor keep another fault out of it."""

import logging

import pytest

from chat_broker_kit.logs.sampling import SampledFilter, SampledLog


class Lines(logging.Handler):
    """Remembers what came through."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        assert record.exc_info is not None
        self.errors.append(repr(record.exc_info[1]))


@pytest.mark.parametrize("by", ["filter", "log"])
def test_an_exception_is_not_left_out_for_those_raised_elsewhere(by: str) -> None:
    """Libraries have one text for all of them: `Task exception was never retrieved`."""
    lines = Lines()
    log = logging.Logger("test")  # noqa: LOG001 - this test's alone
    log.addHandler(lines)
    if by == "filter":
        log.addFilter(SampledFilter(burst=5))
    sampled = SampledLog(log, burst=5)

    def say(error: Exception) -> None:
        if by == "filter":
            log.error("Task exception was never retrieved", exc_info=error)
        else:
            sampled.exception("socket.polling_failed")

    for _ in range(100):
        try:
            strangers()
        except KeyError as error:
            say(error)
    try:
        ours()
    except KeyError as error:
        say(error)
    assert lines.errors == ['KeyError("a stranger\'s")'] * 5 + ["KeyError('ours')"]


def strangers() -> None:
    raise KeyError("a stranger's")


def ours() -> None:
    raise KeyError("ours")
