"""Chat tokens: what is refused, who else can verify them, rotation, revocation against the clock."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from joserfc import jwt
from joserfc.jwk import KeySet

from chat_broker_kit.database.transactions import Database, Query, Steps
from chat_broker_server.chat.models import UserDraft
from chat_broker_server.chat.service import Chat
from chat_broker_server.credentials import jws
from chat_broker_server.credentials.api_keys import ApiKeys
from chat_broker_server.credentials.signing_keys import (
    OVERLAP,
    UNKNOWN_KEY_READ_BURST,
    UNKNOWN_KEY_READS_PER_SECOND,
    SigningKey,
    SigningKeys,
    open_signing_keys,
)
from chat_broker_server.credentials.tokens import Tokens
from chat_broker_server.database.housekeeping import remove_portion
from chat_broker_server.database.open import open_database
from chat_broker_server.errors import NotAuthenticated, NotFound
from tests.conftest import postgres_database

PID = "project"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(f"sqlite:///{tmp_path / 'chat.db'}")
    await ApiKeys(opened).ensure_project(PID, "Project")
    yield opened
    await opened.close()


@pytest.fixture(params=["EdDSA", "ES256", "HS256"])
async def keys(request: pytest.FixtureRequest, database: Database) -> SigningKeys:
    return await open_signing_keys(database, request.param)


@pytest.fixture
async def eddsa(database: Database) -> SigningKeys:
    return await open_signing_keys(database, "EdDSA")


def tokens_of(database: Database, keys: SigningKeys) -> Tokens:
    return Tokens(database, keys, issuer="issuer")


async def user_in(database: Database, name: str = "alice") -> str:
    chat = Chat(database, lambda _: None)
    return (await chat.create_user(PID, UserDraft(username=name, external_user_id=name))).id


def b64(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def opened(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims = [
        json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2]
    ]
    return header, claims


async def forged(keys: SigningKeys, header: Any, claims: Any) -> str:
    """A token that is really signed with the server's key, whatever it says."""
    key = await keys.current()
    signed = f"{b64(header)}.{b64(claims)}".encode()
    return f"{signed.decode()}.{b64(key.crypto.sign(signed))}"


async def code_of(tokens: Tokens, token: str) -> str:
    """Why *token* is refused, or `good`."""
    try:
        await tokens.check(token)
    except NotAuthenticated as error:
        return error.code
    return "good"


def test_ed25519_signs_as_the_rfc_has_it_and_shows_no_key() -> None:
    """RFC 8032, 7.1, test 1, whichever library computes it."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = jws.Ed25519(ed25519.Ed25519PrivateKey.from_private_bytes(seed))
    assert key.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555f"
        "b8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    assert key.verify(b"a token", key.sign(b"a token"))
    assert not key.verify(b"another", key.sign(b"a token"))
    assert "sign" not in repr(key)
    assert repr(seed)[2:20] not in repr(vars(key))


# The contract's name for Ed25519; RFC 9864 prefers another, which fewer libraries know.
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
async def test_a_minted_token_is_good_and_another_library_agrees(
    database: Database, keys: SigningKeys
) -> None:
    """joserfc verifies it from the JWKS alone; an HS256 key is shown to nobody."""
    tokens = tokens_of(database, keys)
    minted = await tokens.mint(PID, await user_in(database), 60)
    claims = await tokens.check(minted.token)
    assert (claims.pid, claims.name, claims.exp - claims.iat) == (PID, "alice", 60)
    assert minted.token not in repr(minted)
    header, said = opened(minted.token)
    if header["alg"] == "HS256":
        assert tokens.jwks() == {"keys": []}
        return
    others = KeySet.import_key_set(tokens.jwks())
    judged = jwt.decode(minted.token, others, algorithms=[header["alg"]])
    assert judged.claims == said
    assert judged.header["kid"] in [key["kid"] for key in tokens.jwks()["keys"]]


async def test_a_token_at_once_is_for_a_database_that_keeps_nobody_waiting(
    database: Database, keys: SigningKeys
) -> None:
    """Postgres is waited for behind a deadline; so is a key that may have been replaced meanwhile."""
    tokens, user_id = tokens_of(database, keys), await user_in(database)
    made = tokens.try_mint(PID, user_id, 60)
    if database.name == "postgres":
        assert made is None
        return
    assert made is not None
    assert (await tokens.check(made.token)).sid == made.session_id
    keys._read_at = float("-inf")
    assert tokens.try_mint(PID, user_id, 60) is None


async def test_a_token_with_one_bit_turned_is_refused(
    database: Database, keys: SigningKeys
) -> None:
    """Wherever the bit is; also when the good one was seen before."""
    tokens = tokens_of(database, keys)
    good = (await tokens.mint(PID, await user_in(database))).token
    assert await code_of(tokens, good) == "good"
    for at in range(0, len(good), 7):
        if good[at] == ".":
            continue
        other = "A" if good[at] != "A" else "B"
        assert await code_of(tokens, good[:at] + other + good[at + 1 :]) == "token_invalid", at


async def test_one_token_has_one_spelling(database: Database, keys: SigningKeys) -> None:
    """Padding, other last characters, white space, the other alphabet: all refused."""
    tokens = tokens_of(database, keys)
    good = (await tokens.mint(PID, await user_in(database))).token
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet[alphabet.index(good[-1]) ^ 1]
    respelt = [f"{good}=", f"{good}==", f" {good}", f"{good}\n", good[:-1] + last, f"{good}."]
    for token in respelt:
        assert await code_of(tokens, token) == "token_invalid", token[-5:]


HEADERS: list[Callable[[dict[str, Any]], Any]] = [
    lambda h: {**h, "alg": "none"},
    lambda h: {**h, "alg": "None"},
    lambda h: {**h, "alg": "HS256"},
    lambda h: {**h, "alg": "ES256"},
    lambda h: {**h, "alg": ["EdDSA"]},
    lambda h: {**h, "alg": "EdDSA "},
    lambda h: {"kid": h["kid"], "typ": h["typ"]},
    lambda h: {**h, "typ": "JWT"},
    lambda h: {**h, "typ": "at+jwt"},
    lambda h: {**h, "typ": "CHAT+JWT"},
    lambda h: {"alg": h["alg"], "kid": h["kid"]},
    lambda h: {"alg": h["alg"], "typ": h["typ"]},
    lambda h: {**h, "kid": "unknown"},
    lambda h: {**h, "kid": 1},
    lambda h: {**h, "kid": "x" * 3000},
    lambda h: {**h, "kid": "../../etc/passwd"},
    lambda h: {**h, "crit": ["b64"], "b64": False},
    lambda h: {**h, "crit": []},
    lambda h: {**h, "b64": True},
    lambda h: {**h, "jku": "https://example.com/keys"},
    lambda h: {**h, "jwk": {"kty": "oct"}},
    lambda h: {**h, "x5c": []},
    lambda h: {**h, "zip": "DEF"},
    lambda h: [h],
    lambda _: b"not json",
    lambda h: json.dumps(h)[:-1].encode() + b',"alg":"EdDSA"}',
]


@pytest.mark.parametrize("change", HEADERS)
async def test_a_header_that_says_anything_else_is_refused(
    database: Database, eddsa: SigningKeys, change: Callable[[dict[str, Any]], Any]
) -> None:
    """Even with a signature of the right key."""
    tokens = tokens_of(database, eddsa)
    header, claims = opened((await tokens.mint(PID, await user_in(database))).token)
    assert await code_of(tokens, await forged(eddsa, header, claims)) == "good"
    assert await code_of(tokens, await forged(eddsa, change(header), claims)) == "token_invalid"


CLAIMS: list[Callable[[dict[str, Any]], Any]] = [
    *[lambda c, name=name: {n: v for n, v in c.items() if n != name} for name in
      ("iss", "aud", "sub", "pid", "ext", "name", "sid", "jti", "iat", "exp", "gen")],
    lambda c: {**c, "iss": "other"},
    lambda c: {**c, "iss": "issuer/"},
    lambda c: {**c, "aud": "other"},
    lambda c: {**c, "aud": ["chat"]},
    lambda c: {**c, "sub": ""},
    lambda c: {**c, "sub": None},
    lambda c: {**c, "sub": 5},
    lambda c: {**c, "exp": str(c["exp"])},
    lambda c: {**c, "exp": float(c["exp"])},
    lambda c: {**c, "exp": True},
    lambda c: {**c, "exp": 1e308},
    lambda c: {**c, "exp": c["iat"]},
    lambda c: {**c, "exp": c["iat"] + 3601},
    lambda c: {**c, "exp": -1},
    lambda c: {**c, "iat": c["iat"] + 0.5},
    lambda c: {**c, "gen": "0"},
    lambda c: {**c, "gen": 0.0},
    lambda c: {**c, "nbf": 0},
    lambda c: {**c, "admin": True},
    lambda c: [c],
    lambda _: b"{}{}",
    lambda c: json.dumps(c)[:-1].encode() + b',"sub":"other"}',
    lambda c: {**c, "name": "\ud800"},
]  # fmt: skip


@pytest.mark.parametrize("change", CLAIMS)
async def test_claims_that_are_not_exactly_ours_are_refused(
    database: Database, eddsa: SigningKeys, change: Callable[[dict[str, Any]], Any]
) -> None:
    """Missing, of another type, for somebody else, too long."""
    tokens = tokens_of(database, eddsa)
    header, claims = opened((await tokens.mint(PID, await user_in(database))).token)
    assert await code_of(tokens, await forged(eddsa, header, change(claims))) == "token_invalid"


@pytest.mark.parametrize("ahead", [31, 45, 3600])
async def test_a_clock_that_is_set_back_signs_nobody_out(
    database: Database, keys: SigningKeys, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """What was made while the clock was ahead is good: generation and `exp` decide, and `iat` is not judged."""
    tokens = tokens_of(database, keys)
    alice = await user_in(database)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    minted = await tokens.mint(PID, alice)
    at_once = tokens.try_mint(PID, alice, 60)
    monkeypatch.setattr(time, "time", real)
    assert await code_of(tokens, minted.token) == "good"
    assert await code_of(tokens_of(database, keys), minted.token) == "good"
    if at_once is not None:
        assert await code_of(tokens, at_once.token) == "good"
    await tokens.revoke(PID, alice)
    assert await code_of(tokens, minted.token) == "token_revoked"


async def test_a_session_that_was_ended_stays_so_after_the_clock_was_set_back(
    database: Database, keys: SigningKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when its token, made while the clock was an hour ahead, lives on for long."""
    tokens = tokens_of(database, keys)
    alice = await user_in(database)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    minted = await tokens.mint(PID, alice, 3600)
    monkeypatch.setattr(time, "time", real)
    claims = await tokens.check(minted.token)
    await tokens.revoke(PID, alice, claims.sid)
    monkeypatch.setattr(time, "time", lambda: real() + 7000)
    await database.write(partial(remove_portion, int(time.time())))
    assert await code_of(tokens, minted.token) == "token_revoked"


async def test_a_public_key_is_no_shared_secret(database: Database, eddsa: SigningKeys) -> None:
    """A token MACed with what the JWKS shows is refused."""
    tokens = tokens_of(database, eddsa)
    header, claims = opened((await tokens.mint(PID, await user_in(database))).token)
    public = tokens.jwks()["keys"][0]
    for secret in (
        base64.urlsafe_b64decode(public["x"] + "=="),
        public["x"].encode(),
        json.dumps(public).encode(),
    ):
        for alg in ("HS256", "EdDSA"):
            signed = f"{b64({**header, 'alg': alg})}.{b64(claims)}".encode()
            token = f"{signed.decode()}.{b64(jws.Hs256(secret).sign(signed))}"
            assert await code_of(tokens, token) == "token_invalid"


async def test_a_refusal_does_not_repeat_the_token(database: Database, eddsa: SigningKeys) -> None:
    """A refused token may be a good one of somebody else's: it is not for logs and answers."""
    tokens = tokens_of(database, eddsa)
    good = (await tokens.mint(PID, await user_in(database))).token
    for token in (good + "x", "secret." + good, "x" * 100):
        with pytest.raises(NotAuthenticated) as caught:
            await tokens.check(token)
        assert token not in str(caught.value)
        assert good not in str(caught.value)


@pytest.mark.parametrize("junk", ["", ".", "..", "a.b", "a.b.c.d", "x" * 9000, "é.é.é", "\ud800"])
async def test_junk_is_refused(database: Database, eddsa: SigningKeys, junk: str) -> None:
    """Whatever its shape."""
    assert await code_of(tokens_of(database, eddsa), junk) == "token_invalid"


async def test_a_token_ends_thirty_seconds_after_its_exp(
    database: Database, eddsa: SigningKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leeway is for skewed clocks, and not a second more; remembered or not."""
    tokens = tokens_of(database, eddsa)
    minted = await tokens.mint(PID, await user_in(database), 60)
    exp = opened(minted.token)[1]["exp"]
    for remembered in (tokens, tokens_of(database, eddsa)):
        for now, code in ((exp + 29.9, "good"), (exp + 30, "token_expired")):
            monkeypatch.setattr(
                "chat_broker_server.credentials.tokens.time.time", lambda now=now: now
            )
            assert await code_of(remembered, minted.token) == code
    claims = jws_claims(minted.token)
    assert claims["exp"] == exp


def jws_claims(token: str) -> dict[str, Any]:
    """What the token says, unverified."""
    return opened(token)[1]


async def test_revoke_and_mint_in_one_instant_come_out_right(
    database: Database, eddsa: SigningKeys
) -> None:
    """A counter decides and no clock: whatever was minted before is dead, whatever after is good."""
    tokens, user_id = tokens_of(database, eddsa), await user_in(database)
    for _ in range(100):
        old = (await tokens.mint(PID, user_id)).token
        await tokens.revoke(PID, user_id)
        new = (await tokens.mint(PID, user_id)).token
        assert (await code_of(tokens, old), await code_of(tokens, new)) == ("token_revoked", "good")


async def test_a_mint_overtaken_by_a_revocation_is_dead(
    database: Database, eddsa: SigningKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read the generation first, and signs when the revocation is done."""
    tokens, user_id = tokens_of(database, eddsa), await user_in(database)
    current, gate = eddsa.current, asyncio.Event()

    async def slow() -> SigningKey:
        await gate.wait()
        return await current()

    monkeypatch.setattr(eddsa, "fresh", lambda: None)
    monkeypatch.setattr(eddsa, "current", slow)
    minting = asyncio.ensure_future(tokens.mint(PID, user_id))
    await asyncio.sleep(0)
    await tokens.revoke(PID, user_id)
    gate.set()
    assert await code_of(tokens, (await minting).token) == "token_revoked"


async def test_recheck_says_for_each_token_what_check_would(
    database: Database, eddsa: SigningKeys
) -> None:
    """None for good ones, the code for the others, in the order asked."""
    tokens = tokens_of(database, eddsa)
    ids = [await user_in(database, name) for name in ("a", "b", "c", "d")]
    held = [await tokens.check((await tokens.mint(PID, user_id)).token) for user_id in ids]
    await tokens.revoke(PID, ids[1])
    await tokens.revoke(PID, ids[2], held[2].sid)
    await Chat(database, lambda _: None).delete_user(PID, ids[3])
    assert await tokens.recheck(held) == [None, "token_revoked", "token_revoked", "user_deleted"]


async def test_revoking_nobody_is_not_found(database: Database, eddsa: SigningKeys) -> None:
    """Also in a project that does not have this user."""
    tokens, user_id = tokens_of(database, eddsa), await user_in(database)
    for pid, who in ((PID, "nobody"), ("other", user_id)):
        with pytest.raises(NotFound):
            await tokens.revoke(pid, who)
        with pytest.raises(NotFound):
            await tokens.mint(pid, who)
    with pytest.raises(NotFound):
        await tokens.revoke_all("other")


async def test_a_rotated_key_signs_at_once_and_the_old_one_verifies_on(
    database: Database, eddsa: SigningKeys
) -> None:
    """Both are in the JWKS; other processes take the new one up when they see it."""
    here, user_id = tokens_of(database, eddsa), await user_in(database)
    elsewhere = tokens_of(database, await open_signing_keys(database, "EdDSA"))
    old = (await here.mint(PID, user_id)).token
    kid = await eddsa.rotate("EdDSA")
    new = (await here.mint(PID, user_id)).token
    assert opened(new)[0]["kid"] == kid != opened(old)[0]["kid"]
    assert {key["kid"] for key in here.jwks()["keys"]} == {kid, opened(old)[0]["kid"]}
    assert await code_of(here, old) == "good"
    assert await code_of(elsewhere, new) == "good"
    assert opened((await elsewhere.mint(PID, user_id)).token)[0]["kid"] == kid


async def test_a_retired_key_is_forgotten_after_its_last_token(
    database: Database, eddsa: SigningKeys
) -> None:
    """Neither shown nor believed any more, not even for a signature seen before."""
    tokens, user_id = tokens_of(database, eddsa), await user_in(database)
    old = (await tokens.mint(PID, user_id)).token
    assert await code_of(tokens, old) == "good"
    await eddsa.rotate("EdDSA")

    def age() -> Steps[None]:
        yield Query(
            "UPDATE signing_keys SET retired_at = $1 WHERE retired_at IS NOT NULL",
            int(time.time()) - OVERLAP - 1,
        )

    await database.write(age)
    await eddsa.refresh()
    assert len(tokens.jwks()["keys"]) == 1
    assert await code_of(tokens, old) == "token_invalid"


async def test_tokens_of_a_new_key_that_come_together_are_all_good(
    database: Database, eddsa: SigningKeys
) -> None:
    """Those that come while the keys are being read wait for what is read."""
    here, user_id = tokens_of(database, eddsa), await user_in(database)
    elsewhere = tokens_of(database, await open_signing_keys(database, "EdDSA"))
    await eddsa.rotate("EdDSA")
    new = [(await here.mint(PID, user_id)).token for _ in range(50)]
    assert set(await asyncio.gather(*(code_of(elsewhere, token) for token in new))) == {"good"}


@pytest.mark.services("postgres")
async def test_replicas_that_start_together_agree_on_the_first_key() -> None:
    """One key signs, whoever came first; each takes the tokens of the others from the first moment on."""
    async with postgres_database() as url, AsyncExitStack() as stack:
        databases = [await open_database(url, pool=2) for _ in range(6)]
        for database in databases:
            stack.push_async_callback(database.close)
        await ApiKeys(databases[0]).ensure_project(PID, "Project")
        user_id = await user_in(databases[0])
        opened_together = await asyncio.gather(
            *(open_signing_keys(database, "EdDSA") for database in databases)
        )
        replicas = [tokens_of(*pair) for pair in zip(databases, opened_together, strict=True)]
        minted = [(await replica.mint(PID, user_id)).token for replica in replicas]
        assert len({opened(token)[0]["kid"] for token in minted}) == 1
        for replica in replicas:
            assert [await code_of(replica, token) for token in minted] == ["good"] * 6


async def test_unknown_key_ids_cause_few_looks(
    database: Database, eddsa: SigningKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of invented ids reads the keys a few times, and then once a second."""
    looks = 0
    refresh = eddsa.refresh

    async def counted() -> None:
        nonlocal looks
        looks += 1
        await refresh()

    monkeypatch.setattr(eddsa, "refresh", counted)
    began = time.monotonic()
    for n in range(250):
        assert await eddsa.by_id(f"kid-{n}") is None
    assert await asyncio.gather(*(eddsa.by_id(f"kid-{n}") for n in range(250))) == [None] * 250
    assert (
        1
        <= looks
        <= UNKNOWN_KEY_READ_BURST + (time.monotonic() - began) * UNKNOWN_KEY_READS_PER_SECOND
    )


async def test_another_algorithm_takes_over_with_an_overlap(
    database: Database, eddsa: SigningKeys
) -> None:
    """A changed setting is a rotation: old tokens stay good."""
    tokens, user_id = tokens_of(database, eddsa), await user_in(database)
    old = (await tokens.mint(PID, user_id)).token
    changed = tokens_of(database, await open_signing_keys(database, "ES256"))
    new = (await changed.mint(PID, user_id)).token
    assert opened(new)[0]["alg"] == "ES256"
    assert (await code_of(changed, old), await code_of(changed, new)) == ("good", "good")


async def test_remembered_signatures_are_bounded(
    database: Database, eddsa: SigningKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest is forgotten, and verified again when it comes back."""
    monkeypatch.setattr("chat_broker_server.credentials.tokens.VERIFIED_CACHE_SIZE", 3)
    tokens, user_id = tokens_of(database, eddsa), await user_in(database)
    minted = [(await tokens.mint(PID, user_id)).token for _ in range(6)]
    for token in minted:
        assert await code_of(tokens, token) == "good"
    assert len(tokens._verified_tokens) == 3
    assert await code_of(tokens, minted[0]) == "good"


async def test_no_private_key_shows_itself(database: Database, keys: SigningKeys) -> None:
    """Neither in a repr nor in the JWKS."""
    current = await keys.current()
    secret = current.crypto.private_text()
    for text in (repr(current), repr(current.crypto), repr(keys), json.dumps(keys.jwks())):
        assert "PRIVATE" not in text
        assert secret not in text
    assert '"d"' not in json.dumps(keys.jwks())


async def test_api_keys_are_stored_as_digests_and_can_be_revoked(database: Database) -> None:
    """Several per project; the text of none is in the database; a revoked one opens nothing."""
    keys = ApiKeys(database)
    pid, first = await keys.create_project("Shop")
    stored, second = await keys.create(pid, "worker")
    assert first.startswith("ck_")
    assert len(first.split("_", 2)[2]) == 43
    assert len({first, second}) == 2
    assert await keys.project_of(first) == await keys.project_of(second) == pid
    assert {key.name for key in await keys.list(pid)} == {"first", "worker"}

    def everything() -> Steps[str]:
        rows = yield Query("SELECT id, name, digest FROM api_keys")
        return repr([tuple(row) for row in rows])

    kept = await database.read(everything)
    for text in (first, second):
        assert text not in kept
        assert text[20:] not in kept
    assert (await keys.revoke(stored.id)).revoked_at is not None
    with pytest.raises(NotAuthenticated):
        await keys.project_of(second)
    assert await keys.project_of(first) == pid
    with pytest.raises(NotFound):
        await keys.revoke("nothing")
    with pytest.raises(NotFound):
        await keys.create("nothing", "x")


@pytest.mark.parametrize(
    "kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.services("postgres"))]
)
async def test_the_embedded_project_is_one_for_all_replicas_and_of_one_database(
    kind: str, tmp_path: Path
) -> None:
    """Six that start together agree; another database has another project; one that was there stays."""
    found = []
    async with AsyncExitStack() as stack:
        for number in range(2):
            url = f"sqlite:///{tmp_path / f'{number}.db'}"
            if kind == "postgres":
                url = await stack.enter_async_context(postgres_database())
            replicas = [await open_database(url, pool=2) for _ in range(6)]
            for one in replicas:
                stack.push_async_callback(one.close)
            ids = await asyncio.gather(*(ApiKeys(one).embedded_project() for one in replicas))
            assert len(set(ids)) == 1
            assert await ApiKeys(replicas[0]).embedded_project() == ids[0]
            found.append(ids[0])
        assert found[0] != found[1]
        older = await open_database(f"sqlite:///{tmp_path / 'older.db'}")
        stack.push_async_callback(older.close)
        await ApiKeys(older).ensure_project("default", "default")
        assert await ApiKeys(older).embedded_project() == "default"


async def test_the_embedded_key_is_kept_nowhere(database: Database) -> None:
    """A hash in memory, nothing in the database; it opens the embedded project alone."""
    keys = ApiKeys(database, embedded_key="embedded-secret", embedded_project=PID)
    assert await keys.project_of("embedded-secret") == PID
    assert "embedded-secret" not in repr(vars(keys))
    for wrong in ("embedded-secre", "", "ck_", "embedded-secret "):
        with pytest.raises(NotAuthenticated):
            await keys.project_of(wrong)
    assert await keys.list(PID) == []
