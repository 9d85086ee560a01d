"""When a peer is left in peace, and how it is found out that it is back."""

from dataclasses import dataclass

import pytest

from chat_broker_kit.breaker import Breaker


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(failures=3, seconds=10.0, clock=clock)


def open_it(breaker: Breaker) -> None:
    for _ in range(3):
        assert breaker.wait() == 0
        breaker.failed()


def test_it_opens_after_so_many_failures_in_a_row(breaker: Breaker) -> None:
    """An answer in between begins the count anew."""
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        assert breaker.wait() == 0
        breaker.answered()
    open_it(breaker)
    assert breaker.wait() == 10


def test_open_it_says_how_long(breaker: Breaker, clock: Clock) -> None:
    open_it(breaker)
    clock.now += 4
    assert breaker.wait() == 6


def test_half_open_one_caller_probes(breaker: Breaker, clock: Clock) -> None:
    """The others are not sent after it before it is known what it met."""
    open_it(breaker)
    clock.now += 10
    assert [breaker.wait() for _ in range(3)] == [0, 10, 10]


def test_a_probe_that_is_answered_closes_it(breaker: Breaker, clock: Clock) -> None:
    open_it(breaker)
    clock.now += 10
    assert breaker.wait() == 0
    breaker.answered()
    assert [breaker.wait() for _ in range(3)] == [0, 0, 0]
    breaker.failed()
    assert breaker.wait() == 0


def test_a_probe_that_fails_opens_it_again(breaker: Breaker, clock: Clock) -> None:
    """From then, not from when it began."""
    open_it(breaker)
    clock.now += 10
    assert breaker.wait() == 0
    clock.now += 3
    breaker.failed()
    assert breaker.wait() == 10


def test_a_probe_that_learnt_nothing_gives_its_turn_back(breaker: Breaker, clock: Clock) -> None:
    """It was never sent, or given up: that says nothing of the peer."""
    open_it(breaker)
    clock.now += 10
    assert breaker.wait() == 0
    breaker.undecided()
    assert [breaker.wait(), breaker.wait()] == [0, 10]


def test_a_late_call_that_learnt_nothing_opens_no_door(breaker: Breaker) -> None:
    """It began before the breaker opened, and is no probe."""
    open_it(breaker)
    breaker.undecided()
    assert breaker.wait() == 10


def test_a_call_that_learnt_nothing_counts_neither_way(breaker: Breaker) -> None:
    breaker.failed()
    breaker.failed()
    breaker.undecided()
    assert breaker.wait() == 0
    breaker.failed()
    assert breaker.wait() == 10


def test_a_probe_that_is_never_heard_of_again_does_not_keep_it_shut(
    breaker: Breaker, clock: Clock
) -> None:
    open_it(breaker)
    clock.now += 10
    assert breaker.wait() == 0
    clock.now += 10
    assert breaker.wait() == 0
