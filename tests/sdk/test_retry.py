"""May a call be repeated, when, and may anything be sent: pure decisions."""

import pytest

from chat_broker_sdk._realtime.room_feed import may_reconnect, pause_before_reconnect
from chat_broker_sdk._retry import Breaker, Budget, Outcome, pause_before_retry, retry_after

NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def _usual_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat_broker_sdk._retry.FIRST_PAUSE", 0.5)


def pause(outcome: Outcome, attempt: int = 1, **changes: object) -> float | None:
    settings = {"max_attempts": 3, "spread": 0.5, "remaining": 10.0, "budget": Budget()}
    return pause_before_retry(outcome, attempt, **{**settings, **changes})  # type: ignore[arg-type]


def test_a_call_that_may_act_twice_is_never_repeated() -> None:
    for status in (None, 429, 500, 503):
        assert pause(Outcome(status, None, repeatable=False)) is None


@pytest.mark.parametrize("status", [None, 408, 429, 500, 502, 503, 504])
def test_passing_troubles_are_tried_again(status: int | None) -> None:
    assert pause(Outcome(status, None, repeatable=True)) is not None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 501])
def test_definite_answers_are_not(status: int) -> None:
    assert pause(Outcome(status, "x", repeatable=True)) is None


def test_a_call_still_running_is_asked_for_again() -> None:
    assert pause(Outcome(409, "idempotency_in_progress", repeatable=True)) is not None


def test_three_attempts_are_the_most() -> None:
    lost = Outcome(None, None, repeatable=True)
    assert pause(lost, 2) is not None
    assert pause(lost, 3) is None
    assert pause(lost, 1, max_attempts=1) is None
    assert pause(lost, 3, max_attempts=9) is None


def test_the_jitter_is_full_and_the_ceiling_doubles() -> None:
    lost = Outcome(None, None, repeatable=True)
    assert pause(lost, 1, spread=0.0) == 0
    assert pause(lost, 1, spread=0.999) == pytest.approx(0.4995)
    assert pause(lost, 2, spread=0.999) == pytest.approx(0.999)


def test_retry_after_is_obeyed_or_the_call_ends_at_once() -> None:
    busy = Outcome(503, None, repeatable=True, retry_after=2.0)
    assert pause(busy, spread=0.0) == 2.0
    assert pause(busy, remaining=1.9) is None


def test_an_empty_budget_ends_repeats() -> None:
    assert pause(Outcome(503, None, repeatable=True), budget=Budget(0.5)) is None


def test_a_failing_server_sees_less_than_a_tenth_more_load() -> None:
    budget, repeats = Budget(), 0
    for _ in range(6000):
        budget = budget.after_call()
        for _attempt in range(2):
            if budget.tokens >= 1:
                budget, repeats = budget.after_retry(), repeats + 1
    assert repeats <= 600


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("1", 1),
        ("1000000000", 60),
        ("9" * 400, 60),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("²", None),
        ("Fri, 15 Jan 2027 08:00:10 GMT", 10),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0),
        ("Fri, 15 Jan 2100 08:00:00 GMT", 60),
        ("Fri, 99 Jan 2027 08:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms_and_clamped(
    text: str | None, seconds: float | None
) -> None:
    assert retry_after(text, now=NOW) == seconds


def fail(breaker: Breaker, times: int, status: int | None = None, now: float = NOW) -> Breaker:
    for _ in range(times):
        breaker = breaker.before_attempt().after_attempt(status, now)
    return breaker


def test_the_breaker_opens_after_five_failures_in_a_row() -> None:
    assert fail(Breaker(), 4).wait(NOW) == 0
    assert fail(Breaker(), 5).wait(NOW) == 30
    assert fail(fail(Breaker(), 4).after_attempt(200, NOW), 4).wait(NOW) == 0


def test_429_and_501_are_answers_and_do_not_open_it() -> None:
    assert fail(Breaker(), 100, 429).wait(NOW) == 0
    assert fail(Breaker(), 100, 501).wait(NOW) == 0
    assert fail(Breaker(), 5, 503).wait(NOW) == 30


def test_after_thirty_seconds_one_attempt_decides() -> None:
    breaker = fail(Breaker(), 5)
    assert breaker.wait(NOW + 29.9) > 0
    assert breaker.wait(NOW + 30) == 0
    probing = breaker.before_attempt()
    assert probing.wait(NOW + 30) > 0, "the second waits for the first"
    assert probing.after_attempt(200, NOW + 31).wait(NOW + 31) == 0
    assert probing.after_attempt(None, NOW + 31).wait(NOW + 32) == 29
    assert probing.after_cancel().wait(NOW + 31) == 0


@pytest.mark.parametrize(
    ("code", "opinion", "again"),
    [
        ("token_expired", None, True),
        ("server_restarting", None, True),
        ("slow_down", None, True),
        (None, None, True),
        ("token_revoked", None, False),
        ("token_revoked", True, False),
        ("user_suspended", None, False),
        ("user_deleted", None, False),
        ("token_invalid", None, False),
        ("something_new", False, False),
        ("something_new", True, True),
    ],
)
def test_codes_say_whether_to_come_back(
    code: str | None, opinion: bool | None, again: bool
) -> None:
    assert may_reconnect(code, opinion) is again


def test_reconnects_spread_out_and_obey_the_server() -> None:
    assert pause_before_reconnect(1, spread=0.0, retry_after=None) == 0
    assert pause_before_reconnect(50, spread=0.5, retry_after=None) == 10
    assert pause_before_reconnect(1, spread=0.0, retry_after=3) == 3
    assert pause_before_reconnect(1, spread=0.0, retry_after=10**9) == 60


def test_a_server_that_refuses_writes_alone_is_not_down() -> None:
    """A full disk: the 503 of a write says nothing against the next read, and ends what failures there were."""
    breaker = Breaker()
    for _ in range(20):
        breaker = breaker.after_attempt(503, NOW, "writes_unavailable")
        assert breaker.wait(NOW) == 0
    for code in ("database_unavailable", None):
        breaker = Breaker()
        for _ in range(5):
            breaker = breaker.after_attempt(503, NOW, code)
        assert breaker.wait(NOW) > 0
