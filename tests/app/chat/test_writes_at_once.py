"""Every pair of acts on one person, at once, by two brokers on one database: both hold, or one is refused as it
would be after the other.

As for the Chat API (tests/server/chat/test_writes_at_once.py), what may come out is what comes out of the two one
after the other, in either order.
"""

import asyncio
import json
import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import Context
from dataclasses import dataclass, field
from itertools import combinations_with_replacement, count
from pathlib import Path
from typing import Any

import httpx
import pytest

from chat_broker.admin.audit_log import verify_chain
from chat_broker.chat.bans import CACHED_FOR
from chat_broker.main import create_app
from tests.app.auth.signing import AUDIENCE, ISSUER, SECRET, secret_signer
from tests.app.brokers import http, settings

ADMIN = "an-admin-key-of-forty-characters-0123456"
ROUNDS = 2
AT_ONCE = 4

TOO_SLOW = re.compile(r'(?:^|")50[234] ', re.MULTILINE)

_numbers = count()


@dataclass
class Alice:
    """A user with a chat token; *broker* and *other* are clients of two brokers."""

    broker: httpx.AsyncClient
    other: httpx.AsyncClient
    subject: str
    tokens: list[str] = field(default_factory=list)

    @property
    def path(self) -> str:
        return f"/admin/users/external:{self.subject}"

    def app_token(self, **claims: Any) -> str:
        now = int(time.time())
        said = {"iss": ISSUER, "aud": AUDIENCE, "sub": self.subject, "iat": now, "exp": now + 600}
        return secret_signer().token({**said, "preferred_username": self.subject, **claims})


Act = Callable[[Alice, httpx.AsyncClient], Awaitable[httpx.Response]]


async def request(broker: httpx.AsyncClient, method: str, path: str, **more: Any) -> httpx.Response:
    """Run one request in its own context, as a server does."""
    sent = asyncio.create_task(broker.request(method, path, **more), context=Context())
    return await sent


def operator(method: str, path: str = "", **body: Any) -> Act:
    async def act(alice: Alice, broker: httpx.AsyncClient) -> httpx.Response:
        headers = {"Authorization": f"Bearer {ADMIN}"}
        filled = {name: value.format(subject=alice.subject) for name, value in body.items()}
        return await request(
            broker, method, alice.path + path, json=filled or None, headers=headers
        )

    return act


def signs_in(**claims: Any) -> Act:
    async def act(alice: Alice, broker: httpx.AsyncClient) -> httpx.Response:
        headers = {"Authorization": f"Bearer {alice.app_token(**claims)}"}
        answer = await request(broker, "POST", "/chat/token", headers=headers)
        if outcome_of(answer) == "409 token_revoked":  # overtaken by a revocation: "Ask again."
            answer = await request(broker, "POST", "/chat/token", headers=headers)
        if answer.status_code == 200:
            alice.tokens.append(answer.json()["token"])
        return answer

    return act


async def mints(alice: Alice, broker: httpx.AsyncClient) -> httpx.Response:
    ask = operator("POST", "/token", reason="a test")
    answer = await ask(alice, broker)
    return await ask(alice, broker) if outcome_of(answer) == "409 token_revoked" else answer


async def signs_out(alice: Alice, broker: httpx.AsyncClient) -> httpx.Response:
    headers = {"Authorization": f"Bearer {alice.app_token()}"}
    return await request(broker, "DELETE", "/chat/token", headers=headers)


WHY = {"reason": "a test"}
ACTS: dict[str, Act] = {
    "ban": operator("POST", "/ban", reason="one"),
    "other ban": operator("POST", "/ban", reason="two", until="2099-01-01T00:00:00Z"),
    "unban": operator("DELETE", "/ban"),
    "suspend": operator("PATCH", status="suspended"),
    "free": operator("PATCH", status="active"),
    "avatar": operator("PATCH", avatar_url="https://example.com/a.png"),
    "put": operator("PUT", email="put@example.com"),
    "delete": operator("DELETE"),
    "revoke": operator("POST", "/revoke", **WHY),
    "mint": mints,
    "signs in as Al": signs_in(name="Al"),
    "signs in with e-mail": signs_in(email="alice@example.com"),
    "signs out": signs_out,
}
FIRST_SIGHT: dict[str, Act] = {
    "put": operator("PUT", email="put@example.com"),
    "put with a name": operator("PUT", username="{subject}"),
    "signs in": signs_in(),
    "signs in as Al": signs_in(name="Al"),
}


@dataclass
class Service:
    """Two brokers that share both databases, their own and the Chat API's."""

    one: httpx.AsyncClient
    two: httpx.AsyncClient

    async def alice(self, start: str = "good") -> Alice:
        alice = Alice(self.one, self.two, f"alice-{next(_numbers)}-{secrets.token_hex(4)}")
        signed_in = await signs_in(name="Alice")(alice, self.one)
        assert signed_in.status_code == 200, signed_in.text
        acts = {
            "good": signs_in(name="Alice"),
            "banned": operator("POST", "/ban", reason="before"),
            "suspended": operator("PATCH", status="suspended"),
        }
        begun = await acts[start](alice, self.one)
        assert begun.status_code == 200, begun.text
        return alice


@asynccontextmanager
async def two_brokers(folder: Path, url: str) -> AsyncIterator[Service]:
    async with AsyncExitStack() as stack:
        clients = []
        for name in ("1", "2"):
            config = settings(
                folder / name,
                auth=("jwt",),
                auth_jwt_issuer=ISSUER,
                auth_jwt_audience=(AUDIENCE,),
                auth_jwt_secret=SECRET,
                admin_key=ADMIN,
                chat_base_url=None,
                chat_api_key=None,
                database_url=url,
                chat_database_url=url,
                rate_auth_failures="100000/minute",
                rate_admin_failures="100000/minute",
            )
            app = create_app(config)
            await stack.enter_async_context(app.router.lifespan_context(app))
            clients.append(await stack.enter_async_context(http(app, timeout=30)))
        yield Service(*clients)


Outcome = tuple[str, ...]


def outcome_of(answer: httpx.Response) -> str:
    body = answer.json() if answer.content else {}
    return f"{answer.status_code} {body.get('code', '')}".strip()


async def state(alice: Alice) -> str:
    """The visible state of the user, whether sign-in works, and the state once no ban holds."""
    found: dict[str, Any] = {}
    shown = await operator("GET")(alice, alice.broker)
    found["user"] = outcome_of(shown)
    if shown.status_code == 200:
        user = shown.json()
        names = ("display_name", "email", "avatar_url", "status")
        found |= {name: user[name] for name in names}
        found["ban"] = user["ban"] and user["ban"]["reason"]
        bans = (await operator("GET", "/bans")(alice, alice.broker)).json()["items"]
        found["bans"] = sorted((ban["reason"], ban["active"]) for ban in bans)
    found["tokens"] = [
        outcome_of(
            await alice.other.get("/chat/verify", headers={"Authorization": f"Bearer {token}"})
        )
        for token in alice.tokens
    ]
    found["signs in"] = outcome_of(await signs_in()(alice, alice.other))
    if found["signs in"] != "200" and found.get("status") == "active" and not found["ban"]:
        await asyncio.sleep(CACHED_FOR + 0.05)  # for which a replica may not have heard
        found["signs in"] = outcome_of(await signs_in()(alice, alice.other))
    if shown.status_code == 200:
        await operator("DELETE", "/ban")(alice, alice.broker)
        found["after the ban"] = (await operator("GET")(alice, alice.broker)).json()["status"]
    return json.dumps(found, sort_keys=True)


async def in_turn(service: Service, acts: dict[str, Act], start: str, *names: str) -> Outcome:
    alice = await begun(service, start)
    answers = [outcome_of(await acts[name](alice, alice.broker)) for name in names]
    return (*answers, await state(alice))


async def at_once(service: Service, acts: dict[str, Act], start: str, *names: str) -> Outcome:
    alice = await begun(service, start)
    barrier = asyncio.Barrier(2)

    async def run(name: str, broker: httpx.AsyncClient) -> httpx.Response:
        await barrier.wait()
        return await acts[name](alice, broker)

    answers = await asyncio.gather(run(names[0], alice.broker), run(names[1], alice.other))
    return (*map(outcome_of, answers), await state(alice))


async def calm(run: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """The outcome of *run*, repeated if a database or the Chat API was too slow."""
    for _ in range(2):
        ended = await run()
        if not TOO_SLOW.search("\n".join(ended)):
            return ended
    return await run()


async def begun(service: Service, start: str) -> Alice:
    if start == "unknown":
        return Alice(service.one, service.two, f"new-{next(_numbers)}-{secrets.token_hex(4)}")
    return await service.alice(start)


def untold(first: str, second: str, ended: Outcome) -> Outcome:
    """The outcome without the name that a refused sign-in had already written to the Chat API."""
    refused = any(
        name.startswith("signs in") and answer != "200"
        for name, answer in zip((first, second), ended, strict=False)
    )
    found = json.loads(ended[-1])
    if refused and "email" in found:
        found |= {"display_name": "Alice", "email": None}
    return (*ended[:-1], json.dumps(found, sort_keys=True))


async def check(service: Service, acts: dict[str, Act], start: str) -> list[str]:
    """Outcomes of two concurrent requests that no order of them gives."""
    wrong: Counter[str] = Counter()
    turn = asyncio.Semaphore(AT_ONCE)

    async def pair(first: str, second: str) -> None:
        async with turn:
            one = await calm(lambda: in_turn(service, acts, start, first, second))
            two, other, after = await calm(lambda: in_turn(service, acts, start, second, first))
            allowed = {one, (other, two, after)}
            for _ in range(ROUNDS):
                ended = await calm(lambda: at_once(service, acts, start, first, second))
                if not {ended, untold(first, second, ended)} & allowed:
                    orders = " or ".join(" / ".join(each) for each in sorted(allowed))
                    wrong[f"{first} beside {second}: {' / '.join(ended)}, not {orders}"] += 1

    await asyncio.gather(*(pair(*each) for each in combinations_with_replacement(acts, 2)))
    return [f"{times} of {ROUNDS}: {text}" for text, times in wrong.items()]


pytestmark = [pytest.mark.services("postgres"), pytest.mark.timeout(400)]


@pytest.mark.parametrize("start", ["good", "banned", "suspended"])
async def test_two_acts_at_once_end_like_one_after_the_other(
    tmp_path: Path, postgres_url: str, start: str
) -> None:
    """Pairs of operators' and the user's requests, for an active, a banned and a suspended user."""
    async with two_brokers(tmp_path, postgres_url) as service:
        wrong = await check(service, ACTS, start)
        assert not wrong, "\n".join(wrong)


async def test_whoever_brings_somebody_in_first_it_is_one_user(
    tmp_path: Path, postgres_url: str
) -> None:
    """Pairs of requests of the app's backend and of the user, equal pairs included."""
    async with two_brokers(tmp_path, postgres_url) as service:
        wrong = await check(service, FIRST_SIGHT, "unknown")
        assert not wrong, "\n".join(wrong)


async def test_a_suspension_holds_against_two_tokens_of_different_names(
    tmp_path: Path, postgres_url: str
) -> None:
    """Sign-ins that change the name run during a ban: the user stays banned."""
    async with two_brokers(tmp_path, postgres_url) as service:
        for _ in range(15):
            alice = await service.alice()
            suspended, *_ = await asyncio.gather(
                operator("PATCH", status="suspended")(alice, service.one),
                signs_in(name="Al")(alice, service.one),
                signs_in(name="Ally")(alice, service.two),
                signs_in(name="Al")(alice, service.two),
            )
            assert suspended.status_code == 200
            shown = (await operator("GET")(alice, service.two)).json()
            assert shown["status"] == "suspended"
            assert (await signs_in(name="Ann")(alice, service.one)).status_code == 403
            for token in alice.tokens:
                headers = {"Authorization": f"Bearer {token}"}
                assert (await service.two.get("/chat/verify", headers=headers)).status_code == 401


async def test_a_key_ended_twice_at_once_is_ended_and_every_call_is_in_the_chain(
    tmp_path: Path, postgres_url: str
) -> None:
    """Both requests get 204, the key is refused afterwards, and each request has one audit record."""
    async with two_brokers(tmp_path, postgres_url) as service:
        headers = {"Authorization": f"Bearer {ADMIN}"}
        body = {"name": "k", "scopes": ["users:read"]}
        made = [
            (await service.one.post("/admin/keys", json=body, headers=headers)).json()
            for _ in range(8)
        ]
        ended = await asyncio.gather(
            *(
                broker.delete(f"/admin/keys/{key['id']}", headers=headers)
                for key in made
                for broker in (service.one, service.two)
            )
        )
        assert {answer.status_code for answer in ended} == {204}
        for key in made:
            with_it = {"Authorization": f"Bearer {key['key']}"}
            assert (await service.two.get("/admin/users", headers=with_it)).status_code == 401
        export = {**headers, "Accept": "application/x-ndjson"}
        exported = await service.one.get("/admin/audit", headers=export)
        links = [json.loads(line) for line in exported.text.splitlines()]
        assert verify_chain(links).sound
        assert len([link for link in links if link["action"] == "keys.revoke"]) == 2 * len(made)
