"""Retry rules, retry budget and circuit breaker. Pure: no clock, no randomness, no socket."""

from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime

MAX_ATTEMPTS = 3
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 5.0
LONGEST_RETRY_AFTER = 60.0
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})

FAILURES_TO_OPEN = 5
REFUSED_BY_A_HEALTHY_SERVER = frozenset({"writes_unavailable"})
"""Codes of a 503 that does not count as a failure: the disk is full, and reads still work."""
OPEN_FOR = 30.0

BUDGET_RESERVE = 10.0
BUDGET_SHARE = 0.09


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt ended. *status* is None without a response. *repeatable*: sending it twice does no harm."""

    status: int | None
    code: str | None
    repeatable: bool
    retry_after: float | None = None


def is_transient(outcome: Outcome) -> bool:
    """Whether the same call may succeed a moment later."""
    if outcome.status is None:
        return True
    if outcome.status == 409:  # the first attempt still runs; a retry gets its response
        return outcome.code == "idempotency_in_progress"
    return outcome.status in TRANSIENT


def pause_before_retry(
    outcome: Outcome,
    attempt: int,
    *,
    max_attempts: int,
    spread: float,
    remaining: float,
    budget: "Budget",
) -> float | None:
    """Seconds to wait before attempt *attempt* + 1, or None to give up.

    *attempt* counts from 1. *spread* is random in [0, 1): full jitter, whose upper bound doubles with each
    attempt. `Retry-After` is added. A pause that does not fit into *remaining* seconds ends the call at once.
    """
    if attempt >= min(max_attempts, MAX_ATTEMPTS) or not outcome.repeatable:
        return None
    if not is_transient(outcome) or budget.tokens < 1:
        return None
    pause = min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE) * spread
    if outcome.retry_after is not None:
        pause += outcome.retry_after
    elif outcome.status == 429:  # without Retry-After: wait at least the first pause
        pause += FIRST_PAUSE
    return pause if pause < remaining else None


def retry_after(value: str | None, *, now: float) -> float | None:
    """Seconds of a `Retry-After` header, 0 to 60; None if absent or invalid. *now*: epoch seconds, for its date form."""
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), LONGEST_RETRY_AFTER)
    try:
        retry_at = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return max(0.0, min(retry_at - now, LONGEST_RETRY_AFTER))


@dataclass(frozen=True, slots=True)
class Budget:
    """How many retries a client may still make. Each call adds 0.09, each retry costs 1.

    Keeps the attempts against a failing server under 1.1 times the calls.
    """

    tokens: float = BUDGET_RESERVE

    def after_call(self) -> "Budget":
        if self.tokens >= BUDGET_RESERVE:
            return self
        return Budget(min(BUDGET_RESERVE, self.tokens + BUDGET_SHARE))

    def after_retry(self) -> "Budget":
        return Budget(self.tokens - 1)


@dataclass(frozen=True, slots=True)
class Breaker:
    """A circuit breaker: stops calls to a server that only fails.

    Closed until five attempts in a row failed, then open for 30 s, then one attempt probes the server and its
    outcome decides. Every status below 500, 501, and the 503 of a server that refuses only writes count as success.
    """

    failures: int = 0
    open_until: float | None = None
    probing: bool = False

    def wait(self, now: float) -> float:
        """Seconds until the next attempt may be sent; 0 means now."""
        if self.open_until is None:
            return 0.0
        if now < self.open_until:
            return self.open_until - now
        return 1.0 if self.probing else 0.0

    def before_attempt(self) -> "Breaker":
        """The state while an attempt runs. Call it after `wait` has returned 0."""
        return self if self.open_until is None else replace(self, probing=True)

    def after_attempt(self, status: int | None, now: float, code: str | None = None) -> "Breaker":
        """The state after an attempt. *status*: None without a response; *code*: the problem's, if it has one."""
        if status is not None and (status < 500 or status == 501):
            return CLOSED
        if status == 503 and code in REFUSED_BY_A_HEALTHY_SERVER:
            return CLOSED
        failures = self.failures + 1
        if failures >= FAILURES_TO_OPEN:
            return Breaker(failures, open_until=now + OPEN_FOR)
        return Breaker(failures)

    def after_cancel(self) -> "Breaker":
        """The state after an attempt without an outcome: the next one may probe."""
        return replace(self, probing=False) if self.probing else self


CLOSED = Breaker()
"""The state at the start and after each success. Compared by identity, so that a healthy server's breaker costs nothing."""
