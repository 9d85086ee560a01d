"""Admin keys: comparison in constant time, and only valid keys are admitted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_broker.admin.audit_log import scrub, scrub_prose, scrubbed
from chat_broker.admin.keys import (
    EVERY_SCOPE,
    AdminKey,
    AdminKeys,
    AdminScope,
    Operator,
    digest,
    looks_like_admin_key,
    new_key,
    scopes_lacking,
)

NOW = "2026-01-01T00:00:00.000Z"
BOOTSTRAP = "bootstrap-key-for-tests-0123456789abcdef"


class Rows:
    def __init__(self):
        self.rows, self.asked = {}, []

    def add(self, **changed):
        key_id, secret = new_key()
        key = AdminKey(
            key_id, "ci", frozenset({AdminScope.USERS_READ}), NOW, "bootstrap", **changed
        )
        self.rows[key_id] = (key, digest(secret.encode()))
        return key_id, secret

    async def find(self, key_id):
        self.asked.append(key_id)
        return self.rows.get(key_id)


@pytest.fixture
def rows():
    return Rows()


def ring(rows, bootstrap=BOOTSTRAP):
    return AdminKeys(rows, bootstrap, now=lambda: NOW)


async def test_a_key_opens_for_its_owner(rows):
    key_id, secret = rows.add()
    owner = await ring(rows).owner(secret.encode())
    assert (owner.id, owner.name, owner.scopes) == (key_id, "ci", {AdminScope.USERS_READ})


async def test_the_bootstrap_key_has_every_scope(rows):
    owner = await ring(rows).owner(BOOTSTRAP.encode())
    assert (owner.id, owner.scopes) == ("bootstrap", EVERY_SCOPE)


@pytest.mark.parametrize(
    "changed",
    [{"revoked_at": NOW}, {"expires_at": NOW}, {"expires_at": "2025-01-01T00:00:00.000Z"}],
)
async def test_an_ended_key_opens_nothing(rows, changed):
    _, secret = rows.add(**changed)
    assert await ring(rows).owner(secret.encode()) is None


async def test_a_key_that_expires_later_still_opens(rows):
    _, secret = rows.add(expires_at="2026-01-01T00:00:00.001Z")
    assert await ring(rows).owner(secret.encode()) is not None


async def test_the_right_id_with_another_secret(rows):
    key_id, secret = rows.add()
    other = f"ak_{key_id}_{new_key()[1].rpartition('_')[2]}"
    assert await ring(rows).owner(other.encode()) is None
    assert await ring(rows).owner(secret[:-1].encode()) is None
    assert await ring(rows).owner((secret + "x").encode()) is None


@pytest.mark.parametrize("bootstrap", [None, BOOTSTRAP])
@pytest.mark.parametrize("presented", [b"", b"\x00", b"\xff\xfe", "ключ".encode(), b"x" * 8000])
async def test_whatever_else_comes_opens_nothing(rows, bootstrap, presented):
    assert await ring(rows, bootstrap).owner(presented) is None


@given(st.binary(max_size=200))
async def test_any_bytes_are_answered_and_take_the_same_way(presented):
    rows = Rows()
    assert await ring(rows).owner(presented) is None
    assert len(rows.asked) == 1


def test_keys_are_random_and_long():
    keys = {new_key() for _ in range(500)}
    assert len({key_id for key_id, _ in keys}) == len(keys)
    assert all(looks_like_admin_key(key) and key_id in key for key_id, key in keys)
    assert not looks_like_admin_key(BOOTSTRAP)


def test_nobody_grants_what_they_lack(rows):
    owner = AdminScope.USERS_READ, AdminScope.KEYS_WRITE
    operator = Operator("k", "k", frozenset(owner))
    assert scopes_lacking(operator, [AdminScope.USERS_READ]) == []
    assert scopes_lacking(operator, [AdminScope.USERS_READ, AdminScope.USERS_BAN]) == [
        AdminScope.USERS_BAN
    ]


def test_no_credential_gets_into_the_audit():
    _, key = new_key()
    jwt = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ1MSJ9.c2lnbmF0dXJl"
    for secret in (key, jwt, "ck_live_0123456789abcdefghij"):
        assert secret not in scrub(f"see {secret}!")
        assert secret not in scrub_prose(f"see {secret}!")
        assert secret not in str(scrubbed({"a": [secret, {secret: 1}]}))
    assert BOOTSTRAP not in scrub_prose(f"used {BOOTSTRAP}")
    assert scrub("external:" + "a1" * 32) == "external:" + "a1" * 32
    assert (
        scrub_prose("Spam in three rooms, see ticket #4711")
        == "Spam in three rooms, see ticket #4711"
    )
    assert scrub("a\x00b\ud800\n") == "a\ufffdb\ufffd\ufffd"
    assert len(scrub_prose("word " * 1000)) == 500
