"""Idempotency-Key: the first answer again, stored in the transaction of what it created.

`first` and `remember` need no lock. Where every user of a key takes the same lock, `unused` and `keep`
behind it write once instead of twice.
"""

import time
from typing import NoReturn

import msgspec

from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.chat.models import Idempotency
from chat_broker_server.errors import IdempotencyKeyReused

KEPT = 24 * 3600


class Replayed(Exception):  # noqa: N818 – not an error: the answer is known already
    """This key made something before: here is the JSON that was answered then, byte for byte."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("replayed")
        self.answer = answer


def first(pid: str, idempotency: Idempotency | None) -> Steps[None]:
    """Claim the key. Raises Replayed if it was used for this body, IdempotencyKeyReused if for
    another. On Postgres a second user of the key waits here until the first has committed."""
    if idempotency is None:
        return
    now = int(time.time())
    claimed = yield Query(
        "INSERT INTO idempotency (project_id, scope, key, fingerprint, answer, expires_at)"
        " VALUES ($1, $2, $3, $4, '', $5)"
        " ON CONFLICT (project_id, scope, key) DO UPDATE SET fingerprint = $4, answer = '',"
        " expires_at = $5 WHERE idempotency.expires_at <= $6 RETURNING 1",
        pid,
        idempotency.scope,
        idempotency.key,
        idempotency.fingerprint,
        now + KEPT,
        now,
    )
    if not claimed:
        yield from unused(pid, idempotency, now)


def remember(pid: str, idempotency: Idempotency | None, answer: msgspec.Struct) -> Steps[None]:
    """Store the answer beside what it created; both are committed, or neither."""
    if idempotency is None:
        return
    yield Query(
        "UPDATE idempotency SET answer = $4 WHERE project_id = $1 AND scope = $2 AND key = $3",
        pid,
        idempotency.scope,
        idempotency.key,
        msgspec.json.encode(answer).decode(),
    )


def unused(pid: str, idempotency: Idempotency | None, now: int | None = None) -> Steps[None]:
    """Raise Replayed if the key was used for this body, IdempotencyKeyReused if for another."""
    if idempotency is None:
        return
    rows = yield Query(
        "SELECT fingerprint, answer FROM idempotency"
        " WHERE project_id = $1 AND scope = $2 AND key = $3 AND expires_at > $4",
        pid,
        idempotency.scope,
        idempotency.key,
        int(time.time()) if now is None else now,
    )
    if rows:
        repeat(idempotency, *rows[0])


def repeat(idempotency: Idempotency, fingerprint: str, answer: str) -> NoReturn:
    """What a key is told that was used, for the body with *fingerprint*: see `unused`."""
    if fingerprint != idempotency.fingerprint:
        raise IdempotencyKeyReused
    raise Replayed(answer.encode())


def keep(pid: str, idempotency: Idempotency | None, answer: bytes) -> Steps[None]:
    """Store the answer, in JSON, under a key that was found unused behind the lock."""
    if idempotency is None:
        return
    yield Query(
        "INSERT INTO idempotency (project_id, scope, key, fingerprint, answer, expires_at)"
        " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (project_id, scope, key)"
        " DO UPDATE SET fingerprint = $4, answer = $5, expires_at = $6",
        pid,
        idempotency.scope,
        idempotency.key,
        idempotency.fingerprint,
        answer.decode(),
        int(time.time()) + KEPT,
    )
