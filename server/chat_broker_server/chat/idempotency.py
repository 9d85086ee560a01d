"""Idempotency-Key: a repeated request gets the first response, which is stored in the first transaction.

`claim` and `store` need no lock. Where all requests with one key take the same lock, `refuse_used` and
`claim_and_store` behind it write once instead of twice.
"""

import time
from typing import NoReturn

import msgspec

from chat_broker_kit.database.transactions import Query, Steps
from chat_broker_server.chat.models import IdempotencyKey
from chat_broker_server.errors import IdempotencyKeyReused

RETENTION_SECONDS = 24 * 3600


class Replayed(Exception):  # noqa: N818 – not an error: the response is known
    """The key was used before. `response` is the stored JSON, byte for byte."""

    def __init__(self, response: bytes) -> None:
        super().__init__("replayed")
        self.response = response


def scopes_of_posting(pid: str, room_id: str, user_id: str) -> tuple[str, str]:
    """The operations that post to a room: with the API key, and with the user's token."""
    posting = f"POST /api/v1/projects/{pid}/rooms/{room_id}/messages"
    return f"key {posting}", f"user {user_id} {posting}"


def claim(pid: str, key: IdempotencyKey | None) -> Steps[None]:
    """Insert the key, without a response yet. Raises as `refuse_used`.

    On Postgres a second request with the key waits here until the first has committed.
    """
    if key is None:
        return
    now = int(time.time())
    claimed = yield Query(
        "INSERT INTO idempotency (project_id, scope, key, fingerprint, answer, expires_at)"
        " VALUES ($1, $2, $3, $4, '', $5)"
        " ON CONFLICT (project_id, scope, key) DO UPDATE SET fingerprint = $4, answer = '',"
        " expires_at = $5 WHERE idempotency.expires_at <= $6 RETURNING 1",
        pid,
        key.operation,
        key.value,
        key.fingerprint,
        now + RETENTION_SECONDS,
        now,
    )
    if not claimed:
        yield from refuse_used(pid, key, now)


def store(pid: str, key: IdempotencyKey | None, response: msgspec.Struct) -> Steps[None]:
    """Store the response under a key that `claim` inserted in this transaction."""
    if key is None:
        return
    yield Query(
        "UPDATE idempotency SET answer = $4 WHERE project_id = $1 AND scope = $2 AND key = $3",
        pid,
        key.operation,
        key.value,
        msgspec.json.encode(response).decode(),
    )


def refuse_used(pid: str, key: IdempotencyKey | None, now: int | None = None) -> Steps[None]:
    """Raise Replayed if the key was used with this body, IdempotencyKeyReused if with another."""
    if key is None:
        return
    rows = yield Query(
        "SELECT fingerprint, answer FROM idempotency"
        " WHERE project_id = $1 AND scope = $2 AND key = $3 AND expires_at > $4",
        pid,
        key.operation,
        key.value,
        int(time.time()) if now is None else now,
    )
    if rows:
        replay(key, *rows[0])


def replay(key: IdempotencyKey, fingerprint: str, response: str) -> NoReturn:
    """Raise what `refuse_used` raises, for a key stored with *fingerprint* and *response*."""
    if fingerprint != key.fingerprint:
        raise IdempotencyKeyReused
    raise Replayed(response.encode())


def claim_and_store(pid: str, key: IdempotencyKey | None, response: bytes) -> Steps[None]:
    """Store the JSON response under a key that was found unused behind the lock."""
    if key is None:
        return
    yield Query(
        "INSERT INTO idempotency (project_id, scope, key, fingerprint, answer, expires_at)"
        " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (project_id, scope, key)"
        " DO UPDATE SET fingerprint = $4, answer = $5, expires_at = $6",
        pid,
        key.operation,
        key.value,
        key.fingerprint,
        response.decode(),
        int(time.time()) + RETENTION_SECONDS,
    )
