"""The audit trail: one record for each admin call, each bound to the one before it by a hash.

A call that changes something is noted down *before* it happens (an open entry) and put into the chain
with its outcome afterwards, in one transaction. If the note cannot be written, the call does not happen.
If the process dies in between, the note is still there and is put into the chain as `failed`, saying
that nobody knows the outcome. So there is never an act without a record, and never two records for one.
"""

import hashlib
import json
import re
import secrets
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Protocol

from chat_broker_kit.text.instants import instant

Outcome = Literal["ok", "refused", "failed"]

GENESIS: Final = "0" * 64
"""What the first record is bound to."""
UNKNOWN: Final = "unknown"
"""The actor of a call whose key nobody knows."""
OUTCOME_UNKNOWN: Final = "the broker stopped before the outcome was known"
FOLD_SECONDS: Final = 60
LONGEST_TEXT: Final = 500

# What certainly is a credential: our keys (admin, project), JWTs, bearer values.
_CREDENTIAL = (
    r"[ac]k_[A-Za-z0-9_-]{16,}|eyJ[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)*|(?i:bearer)\s+\S+"
)
_CREDENTIALS = re.compile(_CREDENTIAL)
# In prose also any unbroken run of 32 or more such characters as secrets are made of. In a name it
# may be an id of the app's.
_IN_PROSE = re.compile(_CREDENTIAL + r"|[A-Za-z0-9_+/=-]{32,}")


_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def scrub(text: str) -> str:
    """A name without anything that is a credential, in one line, and not endless."""
    return _UNPRINTABLE.sub("\ufffd", _CREDENTIALS.sub("[hidden]", text))[:LONGEST_TEXT]


def scrub_prose(text: str) -> str:
    """The same for what people write, which holds no long ids: what looks like a secret goes."""
    return _UNPRINTABLE.sub(" ", _IN_PROSE.sub("[hidden]", text))[:LONGEST_TEXT]


def scrubbed(value: Any) -> Any:
    """`scrub` for every string in a JSON value."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, Mapping):
        return {scrub(str(name)): scrubbed(each) for name, each in value.items()}
    if isinstance(value, Sequence):
        return [scrubbed(each) for each in value]
    return value


def new_id() -> str:
    """A fresh id: 96 random bits."""
    return secrets.token_hex(12)


@dataclass(frozen=True, slots=True)
class Record:
    """Who did what to whom, when, from where, and how it ended. Holds no credential."""

    id: str
    at: str
    actor: str
    action: str
    subject: str | None
    outcome: Outcome
    reason: str | None
    ip: str
    request_id: str
    detail: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As the admin API shows it."""
        return {name: getattr(self, name) for name in _FIELDS}

    @property
    def also(self) -> str | None:
        """The other name of a subject that is a user, for searching: they have an id and an external one."""
        external = self.detail.get("external_user_id")
        names = (self.detail.get("user_id"), f"external:{external}" if external else None)
        return next((name for name in names if name and name != self.subject), None)


_FIELDS: Final = (
    "id",
    "at",
    "actor",
    "action",
    "subject",
    "outcome",
    "reason",
    "ip",
    "request_id",
    "detail",
)


@dataclass(frozen=True, slots=True)
class Link:
    """A record at its place in the chain."""

    seq: int
    record: Record
    previous: str
    hash: str

    def to_dict(self) -> dict[str, Any]:
        """As the export shows it: enough to check the chain without the broker."""
        return {
            **self.record.to_dict(),
            "seq": self.seq,
            "previous": self.previous,
            "hash": self.hash,
        }


def hash_of(seq: int, record: Mapping[str, Any], previous: str) -> str:
    """SHA-256 (hex) over place, predecessor and every field, as JSON with sorted keys and no spaces."""
    content = {name: record[name] for name in _FIELDS} | {"seq": seq, "previous": previous}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def bind(seq: int, record: Record, previous: str) -> Link:
    """Put *record* at place *seq*, behind the record whose hash is *previous*."""
    return Link(seq, record, previous, hash_of(seq, record.to_dict(), previous))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What checking a chain found: *checked* records are sound, the *head* is the last hash of those."""

    checked: int
    head: str
    problem: str | None = None
    seq: int | None = None

    @property
    def sound(self) -> bool:
        """Is every record there, and as it was written?"""
        return self.problem is None


async def verify(links: AsyncIterable[Mapping[str, Any]]) -> Verdict:
    """Check exported links, oldest first. Stops at the first that is missing or changed."""
    verdict = Verdict(0, GENESIS)
    async for link in links:
        verdict = _next(verdict, link)
        if not verdict.sound:
            break
    return verdict


def verify_now(links: Iterable[Mapping[str, Any]]) -> Verdict:
    """The same without a loop."""
    verdict = Verdict(0, GENESIS)
    for link in links:
        verdict = _next(verdict, link)
        if not verdict.sound:
            break
    return verdict


def _next(so_far: Verdict, link: Mapping[str, Any]) -> Verdict:
    expected = so_far.checked + 1
    try:
        seq, previous, told = link["seq"], link["previous"], link["hash"]
        computed = hash_of(seq, link, previous)
    except (KeyError, TypeError, ValueError):
        return replace(so_far, problem=f"record {expected} is not readable", seq=expected)
    if seq != expected:
        return replace(so_far, problem=f"record {expected} is missing", seq=expected)
    if computed != told:
        return replace(so_far, problem=f"record {seq} was changed", seq=seq)
    if previous != so_far.head:
        return replace(
            so_far,
            problem=f"record {seq} does not follow the one before: one was exchanged",
            seq=seq,
        )
    return Verdict(seq, told)


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for. Text is compared exactly; *action* in either case, and it may be a noun or a verb alone.

    *since* is included, *until* is not. *before* is the place from which to go on, towards the past.
    """

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    since: str | None = None
    until: str | None = None
    before: int | None = None
    limit: int = 50


class Chain(Protocol):
    """The records that are final. Raises StateUnavailable when the database does not answer."""

    async def append(self, record: Record) -> None:
        """Put *record* at the end; durable on return."""

    async def find(self, search: Search) -> list[Link]:
        """Links that match, newest first, at most *search.limit*."""

    async def after(self, seq: int, limit: int, search: Search = Search()) -> list[Link]:
        """Up to *limit* links behind *seq* that match, oldest first, to walk the whole chain."""

    async def length(self) -> int:
        """The place of the last record."""


class OpenEntries(Protocol):
    """Records that are not final yet. Raises StateUnavailable like Chain."""

    async def open(self, record: Record) -> None:
        """Note down a call that is about to happen; durable on return."""

    async def touch(self, ids: Sequence[str], now: str) -> None:
        """Say that these calls still go on at *now*."""

    async def close(self, record: Record) -> None:
        """Move the noted call into the chain, as *record* says it ended. Repeating it changes nothing."""

    async def fold(self, key: str, record: Record, count: int) -> None:
        """Count *count* more refused calls under *key*; the first makes the record."""

    async def folds(self) -> list[Record]:
        """Counts that go on, newest first."""

    async def close_overdue(self, *, calls_before: str, folds_before: str) -> int:
        """Move into the chain what nobody will close any more; answers how many."""


def fold_key(address: str, seconds: float) -> str:
    """What is counted together: one address, one minute."""
    return f"{address}|{int(seconds // FOLD_SECONDS)}"


def unknown_key_call(*, address: str, request_id: str, seconds: float) -> Record:
    """The record in which calls with an unknown key from one address in one minute are folded."""
    return Record(
        id=new_id(),
        at=instant(seconds),
        actor=UNKNOWN,
        action="key.unknown",
        subject=None,
        outcome="refused",
        reason="unknown admin key",
        ip=address,
        request_id=request_id,
        detail={"count": 1},
    )
