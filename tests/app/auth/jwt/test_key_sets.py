"""Published keys: refreshed by one request at a time, kept during an outage, dropped when withdrawn."""

import asyncio
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from chat_broker.auth.errors import BadToken, ProviderUnavailable
from chat_broker.auth.http import MAX_BYTES, MAX_CONNECTIONS, open_provider_client
from chat_broker.auth.jwt.discovery import discover_endpoint, discovery_url
from chat_broker.auth.jwt.key_sets import (
    FixedKey,
    KeySet,
    PublishedKeys,
    RemoteKeys,
    read_key_set,
)
from chat_broker.auth.jwt.keys import Key
from chat_broker.auth.provider import BadResponse, NoResponse, NotSent, url_problem
from tests.app.auth.signing import ISSUER, Clock, Signer, ec_signer, ed_signer, number, rsa_signer
from tests.sdk.transports.http_corpus import ENDLESS


class Provider:
    """Serves an issuer's discovery document and key set, and records the requests."""

    def __init__(self, *signers: Signer) -> None:
        self.asked: list[str] = []
        self.keys: list[Any] = [signer.jwk for signer in signers]
        self.discovery: dict[str, Any] = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}
        self.answer: Any = None
        self.headers: dict[str, str] = {}
        self.gate: asyncio.Event | None = None

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return self.answer
        body = (
            self.discovery
            if request.url.path.endswith("openid-configuration")
            else {"keys": self.keys}
        )
        return httpx.Response(200, json=body, headers=self.headers)

    @property
    def fetches(self) -> int:
        return sum(url.endswith("/keys") for url in self.asked)


class Opened:
    """RemoteKeys over a Provider, with a settable clock."""

    def __init__(self, provider: Provider, keys: RemoteKeys, clock: Clock) -> None:
        self.provider, self.keys, self.clock = provider, keys, clock

    async def find(self, kid: str | None = "k1", alg: str = "RS256") -> Key:
        return await self.keys.find(kid, alg)


@pytest.fixture
async def opened() -> Any:
    provider, clock = Provider(rsa_signer()), Clock(1000.0)
    async with open_provider_client(httpx.MockTransport(provider)) as http:
        fetch = PublishedKeys(
            http,
            issuer=ISSUER,
            jwks_url=f"{ISSUER}/keys",
            allowed_hosts=frozenset(),
            algorithms=None,
        )
        keys = RemoteKeys(fetch, name="test", clock=clock)
        yield Opened(provider, keys, clock)
        await keys.close()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_keys_are_asked_for_once(opened: Opened) -> None:
    found = await asyncio.gather(*(opened.find() for _ in range(50)))
    assert {key.kid for key in found} == {"k1"}
    assert opened.provider.fetches == 1
    assert opened.keys.state == "ok"


async def test_a_caller_who_hangs_up_takes_nothing_from_the_others(opened: Opened) -> None:
    opened.provider.gate = asyncio.Event()
    first, second = (asyncio.create_task(opened.find()) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    opened.provider.gate.set()
    assert (await second).kid == "k1"
    assert opened.provider.fetches == 1


async def test_keys_are_refreshed_ahead_of_time_in_the_background(opened: Opened) -> None:
    await opened.find()
    opened.clock.at += 269
    await opened.find()
    await settle()
    assert opened.provider.fetches == 1
    opened.clock.at += 2
    opened.provider.gate = asyncio.Event()
    await asyncio.wait_for(opened.find(), 1)  # does not wait for the answer
    await settle()
    assert opened.provider.fetches == 2
    opened.provider.gate.set()
    await settle()
    opened.clock.at += 200
    await opened.find()
    assert opened.provider.fetches == 2


async def test_a_removed_key_is_refused_after_five_minutes_at_most(opened: Opened) -> None:
    opened.provider.keys.append(rsa_signer("k2").jwk)
    await opened.find()
    del opened.provider.keys[0]
    opened.clock.at += 299
    opened.provider.gate = asyncio.Event()
    await opened.find()  # the refresh is under way, the answer not there yet
    opened.provider.gate.set()
    await settle()
    with pytest.raises(BadToken):
        await opened.find()


async def test_old_keys_are_asked_for_before_they_are_believed(opened: Opened) -> None:
    opened.provider.keys.append(rsa_signer("k2").jwk)
    await opened.find()
    del opened.provider.keys[0]
    opened.clock.at += 300
    assert opened.keys.cached_key("k2", "RS256") is None
    with pytest.raises(BadToken):
        await opened.find("k1")
    assert (await opened.find("k2")).kid == "k2"
    assert opened.provider.fetches == 2


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("max-age=120", 120),
        ("public, max-age=120, must-revalidate", 120),
        ("max-age=5", 60),
        ("no-store", 60),
        ("no-cache, max-age=100", 60),
        ("max-age=99999", 300),
        ("max-age=nonsense", 300),
        ("max-age=99999999999999999999", 300),
        ("", 300),
    ],
)
async def test_the_provider_says_how_long_within_one_to_five_minutes(
    opened: Opened, header: str, seconds: int
) -> None:
    opened.provider.headers = {"cache-control": header}
    await opened.find()
    opened.clock.at += seconds - 31
    assert opened.keys.cached_key("k1", "RS256") is not None
    await settle()
    assert opened.provider.fetches == 1
    opened.clock.at += 31
    assert opened.keys.cached_key("k1", "RS256") is None


async def test_an_unknown_kid_leads_to_one_more_question_and_then_to_none_for_30_s(
    opened: Opened,
) -> None:
    await opened.find()
    for number_ in range(10_000):
        with pytest.raises(BadToken):
            await opened.find(f"junk-{number_}")
        opened.clock.at += 0.001
    assert opened.provider.fetches == 2
    opened.clock.at += 19.9
    with pytest.raises(BadToken):
        await opened.find("junk")
    assert opened.provider.fetches == 2
    opened.clock.at += 0.2
    with pytest.raises(BadToken):
        await opened.find("junk")
    assert opened.provider.fetches == 3


async def test_unknown_kids_all_at_once_are_one_question(opened: Opened) -> None:
    await opened.find()
    results = await asyncio.gather(
        *(opened.find(f"x{i}") for i in range(500)), return_exceptions=True
    )
    assert all(isinstance(result, BadToken) for result in results)
    assert opened.provider.fetches == 2


async def test_a_new_key_is_found_at_once(opened: Opened) -> None:
    await opened.find()
    opened.provider.keys.append(rsa_signer("k2").jwk)
    assert (await opened.find("k2")).kid == "k2"
    found = await asyncio.gather(*(opened.find("k2") for _ in range(10)))
    assert len(found) == 10
    assert opened.provider.fetches == 2


async def test_whoever_asks_for_a_new_key_meanwhile_waits_for_the_same_answer(
    opened: Opened,
) -> None:
    await opened.find()
    opened.provider.keys.append(rsa_signer("k2").jwk)
    opened.provider.gate = asyncio.Event()
    waiting = [asyncio.create_task(opened.find("k2")) for _ in range(5)]
    await settle()
    opened.provider.gate.set()
    assert [key.kid for key in await asyncio.gather(*waiting)] == ["k2"] * 5
    assert opened.provider.fetches == 2


OUTAGES = [
    httpx.ConnectError("refused"),
    httpx.ReadTimeout("slow"),
    httpx.RemoteProtocolError("cut"),
    httpx.Response(500),
    httpx.Response(404),
    httpx.Response(302, headers={"location": "http://127.0.0.1:9/"}),
    httpx.Response(200, text="<html>", headers={"content-type": "text/html"}),
    httpx.Response(200, text="{", headers={"content-type": "application/json"}),
    httpx.Response(200, json=[]),
    httpx.Response(200, json={}),
    httpx.Response(200, json={"keys": {}}),
    httpx.Response(200, json={"keys": []}),
    httpx.Response(200, json={"keys": [1, None, {"kty": "oct", "k": "eA"}]}),
    httpx.Response(200, json={"keys": [{}] * 101}),
    httpx.Response(200, json={"keys": [], "x": "y" * MAX_BYTES}),
]


@pytest.mark.parametrize("outage", OUTAGES, ids=str)
async def test_an_outage_is_survived_for_an_hour(opened: Opened, outage: Any) -> None:
    """Cached keys keep working; an unknown kid raises ProviderUnavailable, not BadToken."""
    await opened.find()
    opened.provider.answer = outage
    opened.clock.at += 3599
    assert (await opened.find()).kid == "k1"
    assert opened.keys.state == "stale"
    with pytest.raises(ProviderUnavailable) as unknown:
        await opened.find("k2")
    assert 1 <= unknown.value.retry_after <= 30
    opened.clock.at += 1
    with pytest.raises(ProviderUnavailable):
        await opened.find()
    assert opened.keys.state == "missing"
    opened.provider.answer = None
    opened.clock.at += 30
    assert (await opened.find()).kid == "k1"
    assert opened.keys.state == "ok"


async def test_a_failed_question_is_not_repeated_for_30_s(opened: Opened) -> None:
    opened.provider.answer = httpx.ConnectError("refused")
    for _ in range(100):
        with pytest.raises(ProviderUnavailable) as error:
            await opened.find()
        opened.clock.at += 0.29
    assert opened.provider.fetches == 1
    assert error.value.retry_after == pytest.approx(30 - 99 * 0.29)
    opened.clock.at += 1.1
    opened.provider.answer = None
    assert (await opened.find()).kid == "k1"
    assert opened.provider.fetches == 2


async def test_ten_minutes_of_outage_cost_one_question_every_30_s(opened: Opened) -> None:
    await opened.find()
    opened.provider.answer = httpx.ConnectError("refused")
    before = opened.provider.fetches
    for second in range(600):
        opened.clock.at += 1
        await opened.find()
        with pytest.raises((ProviderUnavailable, BadToken)):
            await opened.find(f"junk-{second}")
        await settle()
    assert opened.provider.fetches - before <= 600 / 30 + 1


async def test_a_hanging_provider_delays_nobody_whose_key_is_known(opened: Opened) -> None:
    await opened.find()
    opened.provider.answer = httpx.ReadTimeout("slow")
    opened.clock.at += 301
    await opened.find()  # this one waits, and then knows that the provider is down
    opened.provider.gate = asyncio.Event()
    opened.clock.at += 31
    assert (await asyncio.wait_for(opened.find(), 0.2)).kid == "k1"
    opened.provider.gate.set()


async def test_refresh_never_raises(opened: Opened) -> None:
    opened.provider.answer = httpx.ConnectError("refused")
    await opened.keys.refresh()
    await opened.keys.refresh()
    assert opened.provider.fetches == 1
    assert opened.keys.state == "missing"


async def test_close_drops_a_question_that_is_under_way(opened: Opened) -> None:
    opened.provider.gate = asyncio.Event()
    waiting = asyncio.create_task(opened.find())
    await settle()
    await opened.keys.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


# -- the set ----------------------------------------------------------------------------------------


def test_a_set_holds_only_keys_that_may_verify() -> None:
    good = [rsa_signer("r").jwk, ec_signer("e").jwk, ed_signer("d").jwk]
    useless = [
        {**rsa_signer("enc").jwk, "use": "enc"},
        {**rsa_signer("ops").jwk, "key_ops": ["encrypt"]},
        {"kty": "RSA", "kid": "small", "n": number((1 << 1023) | 1), "e": "AQAB"},
        {"kty": "oct", "kid": "oct", "k": "x" * 43, "alg": "HS256"},
        {"kty": "RSA", "kid": 7},
        "text",
    ]
    keys = read_key_set({"keys": [*useless, *good]}, None)
    assert set(keys.by_kid) == {"r", "e", "d"}
    assert len(keys) == 3
    assert set(read_key_set({"keys": good}, frozenset({"ES256"})).by_kid) == {"e"}
    assert keys.get("r", "RS256") is not None
    assert keys.get("r", "PS256") is None


def test_two_keys_of_one_name_spoil_the_set() -> None:
    with pytest.raises(BadResponse, match="same kid"):
        read_key_set({"keys": [rsa_signer("k").jwk, ec_signer("k").jwk]}, None)


def test_without_a_kid_there_must_be_no_choice() -> None:
    one = read_key_set({"keys": [rsa_signer(None).jwk, ec_signer("e").jwk]}, None)
    assert one.get(None, "RS256") is not None
    assert one.get(None, "ES256") is not None
    assert one.get(None, "EdDSA") is None
    assert one.get("None", "RS256") is None
    two = read_key_set({"keys": [rsa_signer(None).jwk, rsa_signer("other").jwk]}, None)
    assert two.get(None, "RS256") is None
    assert len(two) == 2


@pytest.mark.parametrize(
    "kid", ["../../etc/passwd", "' OR 1=1 --", "k1 ", "K1", "", "\u00e9", "x" * 128]
)
async def test_a_kid_is_a_name_and_nothing_else(opened: Opened, kid: str) -> None:
    with pytest.raises(BadToken):
        await opened.find(kid)
    assert set(opened.provider.asked) == {f"{ISSUER}/keys"}


async def test_a_fixed_key_answers_to_any_kid() -> None:
    from chat_broker.auth.jwt.keys import key_from_pem

    fixed = FixedKey(key_from_pem(rsa_signer().pem))
    assert await fixed.find("whatever", "RS256") is fixed.cached_key(None, "RS256")
    assert fixed.cached_key(None, "ES256") is None
    with pytest.raises(BadToken, match="algorithm"):
        await fixed.find(None, "ES256")


# -- discovery --------------------------------------------------------------------------------------


async def discover(
    document: Any, *, allowed: frozenset[str] = frozenset(), issuer: str = ISSUER
) -> str:
    def answer(_: httpx.Request) -> httpx.Response:
        return (
            document if isinstance(document, httpx.Response) else httpx.Response(200, json=document)
        )

    async with open_provider_client(httpx.MockTransport(answer)) as http:
        return await discover_endpoint(http, issuer, "jwks_uri", allowed)


def test_the_document_is_below_the_issuer() -> None:
    assert discovery_url("https://a.example/realms/x") == (
        "https://a.example/realms/x/.well-known/openid-configuration"
    )
    assert (
        discovery_url("https://a.example/") == "https://a.example/.well-known/openid-configuration"
    )


async def test_the_keys_are_where_the_issuer_is() -> None:
    for uri in (f"{ISSUER}/keys", f"{ISSUER}:443/keys", f"{ISSUER}/a/b?c=d"):
        assert await discover({"issuer": ISSUER, "jwks_uri": uri}) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.test/keys",
        "https://id.example.com.evil.test/keys",
        "https://id.example.com@evil.test/keys",
        "https://id.example.com:8443/keys",
        "http://id.example.com/keys",
        "https://169.254.169.254/latest",
        "https://[fe80::1]/keys",
        "https://[::ffff:169.254.169.254]/keys",
        "https://metadata.google.internal/keys",
        "file:///etc/passwd",
        "gopher://id.example.com/",
        "//id.example.com/keys",
        "/keys",
        "https://id.example.com/keys#x",
        "https://id.example.com\\@evil.test/keys",
        "https://id.example.com:99999/keys",
        " https://id.example.com/keys",
        "",
        None,
        7,
        ["https://id.example.com/keys"],
    ],
)
async def test_a_document_cannot_send_us_elsewhere(uri: object) -> None:
    with pytest.raises(BadResponse):
        await discover({"issuer": ISSUER, "jwks_uri": uri})
    allowed = frozenset({"169.254.169.254", "metadata.google.internal"})
    with pytest.raises(BadResponse):
        await discover({"issuer": ISSUER, "jwks_uri": uri}, allowed=allowed)


async def test_another_host_may_be_allowed_by_name() -> None:
    document = {"issuer": ISSUER, "jwks_uri": "https://keys.example.net/keys"}
    assert await discover(document, allowed=frozenset({"keys.example.net"}))
    with pytest.raises(BadResponse, match="AUTH_JWT_JWKS_HOSTS"):
        await discover(document, allowed=frozenset({"example.net"}))
    with_port = {"issuer": ISSUER, "jwks_uri": "https://keys.example.net:8443/keys"}
    assert await discover(with_port, allowed=frozenset({"keys.example.net:8443"}))


@pytest.mark.parametrize("issuer", [None, "", ISSUER + "/", "https://evil.test", [ISSUER]])
async def test_a_document_is_its_own_issuers(issuer: object) -> None:
    with pytest.raises(BadResponse, match="another issuer"):
        await discover({"issuer": issuer, "jwks_uri": f"{ISSUER}/keys"})


@pytest.mark.parametrize(
    "answer", [httpx.Response(404), httpx.Response(301, headers={"location": "/x"})]
)
async def test_a_missing_document_is_a_bad_answer(answer: httpx.Response) -> None:
    with pytest.raises(BadResponse, match="discovery"):
        await discover(answer)


FILES = [
    "text/plain; charset=utf-8",
    "application/octet-stream",
    "binary/octet-stream",
    "application/jwk-set+json",
    None,
]


@pytest.mark.parametrize("kind", FILES)
async def test_a_file_server_may_label_keys_and_document_as_it_does_files(kind: str | None) -> None:
    """The media types of file servers are accepted; other content is still refused."""
    headers = {"content-type": kind} if kind else {}
    good = [{"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}, {"keys": [rsa_signer().jwk]}]

    def labelled(*documents: Any) -> httpx.MockTransport:
        found = dict(zip(("configuration", "/keys"), documents, strict=True))

        def answer(question: httpx.Request) -> httpx.Response:
            body = next(body for end, body in found.items() if str(question.url).endswith(end))
            return httpx.Response(200, content=json.dumps(body).encode(), headers=headers)

        return httpx.MockTransport(answer)

    async def keys_of(*documents: Any) -> Any:
        async with open_provider_client(labelled(*documents)) as http:
            fetch = PublishedKeys(
                http, issuer=ISSUER, jwks_url=None, allowed_hosts=frozenset(), algorithms=None
            )
            return await fetch()

    keys, _ = await keys_of(*good)
    assert len(keys) == 1
    for bad in ({}, {"keys": []}, {"keys": "x"}, ["keys"], "text"):
        with pytest.raises(BadResponse):
            await keys_of(good[0], bad)


async def test_keys_are_discovered_once_and_again_after_a_failure() -> None:
    provider, clock = Provider(rsa_signer()), Clock(1000.0)
    async with open_provider_client(httpx.MockTransport(provider)) as http:
        fetch = PublishedKeys(
            http, issuer=ISSUER, jwks_url=None, allowed_hosts=frozenset(), algorithms=None
        )
        keys = RemoteKeys(fetch, name="test", clock=clock)
        await keys.find("k1", "RS256")
        clock.at += 300
        await keys.find("k1", "RS256")
        assert [url.rpartition("/")[2] for url in provider.asked] == [
            "openid-configuration",
            "keys",
            "keys",
        ]
        provider.answer = httpx.Response(404)
        clock.at += 300
        await keys.find("k1", "RS256")
        provider.answer, provider.asked = None, []
        provider.discovery["jwks_uri"] = f"{ISSUER}/moved/keys"
        clock.at += 30
        await keys.find("k1", "RS256")
        await settle()
        assert provider.asked[-1] == f"{ISSUER}/moved/keys"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://id.example.com", None),
        ("https://id.example.com:8443/a?b=c", None),
        ("http://127.0.0.1:4000/x", None),
        ("http://localhost", None),
        ("http://[::1]:9/", None),
        ("http://idp.localhost:1/", None),
        ("http://id.example.com", "must be https"),
        ("http://10.0.0.1", "must be https"),
        ("http://localhost.evil.test", "must be https"),
        ("http://127.0.0.1.evil.test", "must be https"),
        ("ftp://id.example.com", "not an http"),
        ("id.example.com", "not an http"),
        ("", "not an http"),
        ("https://", "not an http"),
        ("https://u@id.example.com", "user name"),
        ("https://u:p@id.example.com", "user name"),
        ("https://id.example.com/#a", "fragment"),
        ("https://id.example.com/#", "fragment"),
        ("https://id.example.com/\u00e9", "ASCII"),
        ("https://id.example.com/a b", "ASCII"),
        ("https://id.example.com\\x", "ASCII"),
        ("https://id.example.com:port", "not a URL"),
        ("https://[::1", "not a URL"),
    ],
)
def test_only_https_is_asked_and_http_on_loopback(url: str, problem: str | None) -> None:
    found = url_problem(url)
    assert found is None if problem is None else problem in (found or "")


# -- the network ------------------------------------------------------------------------------------


class Drip(httpx.AsyncByteStream):
    """A response body without an end, sent slowly."""

    async def __aiter__(self) -> Any:
        while True:
            yield b" "
            await asyncio.sleep(0.05)


async def test_an_answer_that_drips_is_cut_off_after_two_seconds() -> None:
    started = asyncio.get_running_loop().time()
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Drip()))
    async with open_provider_client(transport) as http:
        with pytest.raises(NoResponse):
            await http.get(f"{ISSUER}/keys")
    assert 1.9 < asyncio.get_running_loop().time() - started < 3


async def test_a_question_that_finds_no_free_connection_ends_after_half_of_its_time() -> None:
    """The log says so, because the provider is not at fault."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
    async with open_provider_client() as http:
        asked = (http.get(url) for _ in range(MAX_CONNECTIONS + 5))
        ended = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(each, NoResponse) for each in ended)
    assert sum(isinstance(each, NotSent) for each in ended) == 5
    server.close()


@pytest.mark.parametrize("name", ENDLESS)
async def test_an_answer_without_an_end_is_given_up(name: str) -> None:
    """A response without an end is given up after two seconds, and its bytes are not kept."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ENDLESS[name].begin)
            while True:
                writer.write(ENDLESS[name].again)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    began = asyncio.get_running_loop().time()
    before = memory_mb()
    async with open_provider_client() as http:
        with pytest.raises((NoResponse, BadResponse)):
            await http.get(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys")
    assert asyncio.get_running_loop().time() - began < 4
    assert memory_mb() - before < 32
    server.close()


def memory_mb() -> float:
    """The memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024 / 1024


async def test_keys_that_could_not_be_asked_for_may_be_asked_for_at_once_again() -> None:
    answers = iter([NotSent("busy"), NoResponse("down")])

    async def fetch() -> tuple[KeySet, int | None]:
        raise next(answers)

    keys = RemoteKeys(fetch, name="issuer")
    await keys.refresh()
    await keys.refresh()
    await keys.refresh()
    assert next(answers, None) is None, "the second was asked, and after it none for a while"


async def test_a_compressed_answer_is_refused() -> None:
    import gzip

    bomb = gzip.compress(json.dumps({"keys": [], "x": " " * 10_000_000}).encode())
    answer = httpx.Response(200, content=bomb, headers={"content-encoding": "gzip"})
    async with open_provider_client(httpx.MockTransport(lambda _: answer)) as http:
        with pytest.raises(BadResponse, match="compressed"):
            await http.get(f"{ISSUER}/keys")


async def test_a_cookie_of_one_answer_never_travels_with_another_question() -> None:
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("cookie"))
        return httpx.Response(200, headers={"set-cookie": "who=alice; Path=/"})

    async with open_provider_client(httpx.MockTransport(answer)) as http:
        for _ in range(3):
            await http.get(f"{ISSUER}/session")
    assert seen == [None, None, None]
