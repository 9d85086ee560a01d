"""The audit log: one record for each admin request, chained to the record before it by a hash.

A request that changes data is first written as a pending record. Afterwards one transaction moves it
to the chain with its outcome. If the pending record cannot be written, the request is refused. If the
process dies meanwhile, the pending record is moved to the chain as `failed`, with an unknown outcome.
So no change is without a record, and none has two.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, Protocol

from chat_broker_kit.text.timestamps import format_timestamp

Outcome = Literal["ok", "refused", "failed"]

GENESIS: Final = "0" * 64
"""The previous hash of the first record."""
UNKNOWN: Final = "unknown"
"""The actor of a request with an unknown key."""
OUTCOME_UNKNOWN: Final = "the broker stopped before the outcome was known"
FOLD_SECONDS: Final = 60
LONGEST_TEXT: Final = 500

# Texts that are certainly credentials: admin and project keys, JWTs, bearer values.
_CREDENTIAL = (
    r"[ac]k_[A-Za-z0-9_-]{16,}|eyJ[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)*|(?i:bearer)\s+\S+"
)
_CREDENTIALS = re.compile(_CREDENTIAL)
# In prose, also any 32 or more characters of base64 in a row. In a name they may be an id of the app's.
_IN_PROSE = re.compile(_CREDENTIAL + r"|[A-Za-z0-9_+/=-]{32,}")


_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def scrub(text: str) -> str:
    """A name for the audit log: credentials hidden, one line, at most 500 characters."""
    return _UNPRINTABLE.sub("\ufffd", _CREDENTIALS.sub("[hidden]", text))[:LONGEST_TEXT]


def scrub_prose(text: str) -> str:
    """A reason for the audit log: like `scrub`, but also without long runs that may be secrets."""
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
    return secrets.token_hex(12)


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One admin request: actor, action, subject, time, address and outcome. Holds no credential."""

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
        """The other id of a subject that is a user (chat user id or `external:` id), for searching."""
        external = self.detail.get("external_user_id")
        names = (self.detail.get("user_id"), f"external:{external}" if external else None)
        return next((name for name in names if name and name != self.subject), None)


_FIELDS: Final = tuple(each.name for each in fields(AuditRecord))


@dataclass(frozen=True, slots=True)
class ChainedRecord:
    """A record with its number in the chain, the hash of the record before, and its own hash."""

    seq: int
    record: AuditRecord
    previous: str
    hash: str

    def to_dict(self) -> dict[str, Any]:
        """As the export shows it: all that `verify_chain` needs."""
        chained = {"seq": self.seq, "previous": self.previous, "hash": self.hash}
        return self.record.to_dict() | chained


def hash_of(seq: int, record: Mapping[str, Any], previous: str) -> str:
    """SHA-256 (hex) of all fields, *seq* and *previous*, as JSON with sorted keys and no spaces."""
    content = {name: record[name] for name in _FIELDS} | {"seq": seq, "previous": previous}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def chain_record(seq: int, record: AuditRecord, previous: str) -> ChainedRecord:
    """*record* at number *seq*, after the record whose hash is *previous*."""
    return ChainedRecord(seq, record, previous, hash_of(seq, record.to_dict(), previous))


@dataclass(frozen=True, slots=True)
class ChainCheck:
    """The result of checking a chain: *checked* records are sound, and *head* is the hash of the last.

    *problem* and *seq* describe the first record that is not sound; None if all are.
    """

    checked: int
    head: str
    problem: str | None = None
    seq: int | None = None

    @property
    def sound(self) -> bool:
        return self.problem is None


def verify_chain(records: Iterable[Mapping[str, Any]]) -> ChainCheck:
    """Check exported records, oldest first. Stops at the first that is missing or changed."""
    check = ChainCheck(0, GENESIS)
    for record in records:
        check = _next(check, record)
        if not check.sound:
            break
    return check


def _next(check: ChainCheck, record: Mapping[str, Any]) -> ChainCheck:
    expected = check.checked + 1
    try:
        seq, previous, stored_hash = record["seq"], record["previous"], record["hash"]
        computed = hash_of(seq, record, previous)
    except (KeyError, TypeError, ValueError):
        return replace(check, problem=f"record {expected} is not readable", seq=expected)
    if seq != expected:
        return replace(check, problem=f"record {expected} is missing", seq=expected)
    if computed != stored_hash:
        return replace(check, problem=f"record {seq} was changed", seq=seq)
    if previous != check.head:
        problem = f"record {seq} does not follow the one before: one was exchanged"
        return replace(check, problem=problem, seq=seq)
    return ChainCheck(seq, stored_hash)


@dataclass(frozen=True, slots=True)
class AuditSearch:
    """Conditions on records. Texts must be equal; *action* may also be its noun or its verb alone.

    *since* is included, *until* is not. *before* is the `seq` that the last page ended with.
    """

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    since: str | None = None
    until: str | None = None
    before: int | None = None
    limit: int = 50


class AuditChain(Protocol):
    """The final records. Raises StateUnavailable when the database does not respond."""

    async def append(self, record: AuditRecord) -> None:
        """Add *record* at the end; durable on return."""

    async def find(self, search: AuditSearch) -> list[ChainedRecord]:
        """Records that match, newest first, at most *search.limit*."""

    async def after(
        self, seq: int, limit: int, search: AuditSearch = AuditSearch()
    ) -> list[ChainedRecord]:
        """Up to *limit* records after *seq* that match, oldest first."""

    async def length(self) -> int:
        """The `seq` of the last record; 0 if there is none."""


class PendingRecords(Protocol):
    """Records that are not final yet. Raises StateUnavailable when the database does not respond."""

    async def open(self, record: AuditRecord) -> None:
        """Add the record of a request that has not been carried out yet; durable on return."""

    async def touch(self, ids: Sequence[str], now: str) -> None:
        """Note that these requests are still being carried out at *now*."""

    async def close(self, record: AuditRecord) -> None:
        """Move the pending record to the chain, with the outcome in *record*. Repeating it changes nothing."""

    async def fold(self, key: str, record: AuditRecord, count: int) -> None:
        """Add *count* to the pending record under *key*; without one, add *record*."""

    async def folds(self) -> list[AuditRecord]:
        """Pending counts of unknown keys, newest first."""

    async def close_abandoned(self, *, requests_before: str, folds_before: str) -> int:
        """Move to the chain what no process will close any more; returns how many records."""


def fold_key(address: str, seconds: float) -> str:
    """The key under which unknown keys are counted together: one address, one minute."""
    return f"{address}|{int(seconds // FOLD_SECONDS)}"


def unknown_key_record(*, address: str, request_id: str, seconds: float) -> AuditRecord:
    """The record that counts requests with an unknown key from one address in one minute."""
    return AuditRecord(
        id=new_id(),
        at=format_timestamp(seconds),
        actor=UNKNOWN,
        action="key.unknown",
        subject=None,
        outcome="refused",
        reason="unknown admin key",
        ip=address,
        request_id=request_id,
        detail={"count": 1},
    )
