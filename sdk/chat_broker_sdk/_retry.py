"""May this call be repeated, after how long, and may anything be sent at all. Pure: no clock, no chance, no socket."""

from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime

MAX_ATTEMPTS = 3
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 5.0
LONGEST_RETRY_AFTER = 60.0
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})

FAILURES_TO_OPEN = 5
REFUSED_BY_A_HEALTHY_SERVER = frozenset({"writes_unavailable"})
"""Codes of a 503 that says nothing against the next call: the disk is full, and reads are answered."""
OPEN_FOR = 30.0

BUDGET_RESERVE = 10.0
BUDGET_SHARE = 0.09


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt ended. *status* None: no answer. *repeatable*: a second time does no harm."""

    status: int | None
    code: str | None
    repeatable: bool
    retry_after: float | None = None


def is_transient(outcome: Outcome) -> bool:
    """Could the same call succeed a moment later?"""
    if outcome.status is None:
        return True
    if outcome.status == 409:  # the first of the two is still running; its answer will be ours
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

    *attempt* counts from 1. *spread* in [0, 1) is chance: full jitter, between nothing and twice as
    much with each attempt. A server's `Retry-After` is obeyed as the least; one that does not fit into
    *remaining* ends the call at once instead of after a vain wait.
    """
    if attempt >= min(max_attempts, MAX_ATTEMPTS) or not outcome.repeatable:
        return None
    if not is_transient(outcome) or budget.tokens < 1:
        return None
    pause = min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE) * spread
    if outcome.retry_after is not None:
        pause += outcome.retry_after
    elif outcome.status == 429:  # told to slow down, but not by how much: not a moment to be quick
        pause += FIRST_PAUSE
    return pause if pause < remaining else None


def retry_after(value: str | None, *, now: float) -> float | None:
    """Seconds of a `Retry-After` header, between 0 and 60; None if absent or unreadable.

    *now* is epoch seconds, for the date form.
    """
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), LONGEST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return max(0.0, min(moment - now, LONGEST_RETRY_AFTER))


@dataclass(frozen=True, slots=True)
class Budget:
    """How many repeats a client may still make: each call earns a little, each repeat costs one.

    Keeps the load on a failing server under 1.1 times the calls, however many callers there are.
    """

    tokens: float = BUDGET_RESERVE

    def after_call(self) -> "Budget":
        """One more call was begun."""
        if self.tokens >= BUDGET_RESERVE:
            return self
        return Budget(min(BUDGET_RESERVE, self.tokens + BUDGET_SHARE))

    def after_retry(self) -> "Budget":
        """One repeat was made."""
        return Budget(self.tokens - 1)


@dataclass(frozen=True, slots=True)
class Breaker:
    """Whether a server that only fails is left in peace.

    Closed until five attempts in a row failed; then open for 30 s; then one attempt goes through, whose
    end decides. 429 and every other definite answer below 500 count as success, and so do 501 and a 503
    of a server that refuses writes alone.
    """

    failures: int = 0
    open_until: float | None = None
    probing: bool = False

    def wait(self, now: float) -> float:
        """Seconds until something may be sent; 0 means now."""
        if self.open_until is None:
            return 0.0
        if now < self.open_until:
            return self.open_until - now
        return 1.0 if self.probing else 0.0

    def before_attempt(self) -> "Breaker":
        """An attempt begins (`wait` has said 0)."""
        return self if self.open_until is None else replace(self, probing=True)

    def after_attempt(self, status: int | None, now: float, code: str | None = None) -> "Breaker":
        """The attempt ended with *status* and the problem's *code*; None for no answer, and for no code."""
        if status is not None and (status < 500 or status == 501):
            return CLOSED
        if status == 503 and code in REFUSED_BY_A_HEALTHY_SERVER:
            return CLOSED
        failures = self.failures + 1
        if failures >= FAILURES_TO_OPEN:
            return Breaker(failures, open_until=now + OPEN_FOR)
        return Breaker(failures)

    def after_cancel(self) -> "Breaker":
        """The attempt ended without a verdict: nothing is learnt, and the next may probe."""
        return replace(self, probing=False) if self.probing else self


CLOSED = Breaker()
"""How every breaker begins, and what success makes of it again: then nobody need ask it anything."""
