"""Keys change under load, and nobody notices: `python -m benchmarks.rotation`.

200 requests a second for 20 s, three times: while the project's API key is replaced (CHAT_API_KEY_NEXT, then the
old key revoked, then CHAT_API_KEY, each with SIGHUP), while the embedded server's signing key is replaced three
times, and while the identity provider publishes a second key, signs with it, and drops the first. Every answer
that is no success counts as a failure; the exit code is 1 if there is one.
"""

import argparse
import asyncio
import json
import os
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from tests.programs import Program, run_command, running_broker, running_server

from .provider import SigningKey, provider
from .steady import Outcome, Plan, carry_out, request, summary

PLENTY = dict.fromkeys(
    ("RATE_IP", "RATE_TOKEN", "RATE_WRITE", "RATE_READ", "RATE_AUTH_FAILURES"), "10000000/minute"
)
QUIET = {"LOG_LEVEL": "WARNING", **PLENTY}
USERS = 50

Step = tuple[float, Callable[[], Awaitable[None]]]
"""A time in seconds, and the action to take then."""


async def sign_in(http: httpx.AsyncClient, count: int = USERS) -> list[str]:
    """App credentials of development users."""
    tokens = []
    for number in range(count):
        answer = await http.post("/dev/login", json={"username": f"user{number}"})
        tokens.append(str(answer.json()["token"]))
        http.cookies.clear()  # one credential at a time
    return tokens


async def a_room(http: httpx.AsyncClient, tokens: list[str]) -> str:
    """A room with all users."""
    headers = [{"authorization": f"Bearer {token}"} for token in tokens]
    made = await http.post("/chat/rooms", json={"name": "General"}, headers=headers[0])
    assert made.status_code == 201, made.text
    room = str(made.json()["id"])
    for one in headers:
        (await http.post(f"/chat/rooms/{room}/join", headers=one)).raise_for_status()
    return room


def chat(tokens: list[str], room: str) -> list[str]:
    """Requests of frontends: reads, writes and chat tokens in equal parts."""
    messages, say = f"/chat/rooms/{room}/messages", json.dumps({"content": "See you at noon?"})
    return [
        one
        for token in tokens
        for one in (
            request("GET", messages, token),
            request("POST", messages, token, body=say),
            request("GET", "/chat/rooms", token),
            request("POST", "/chat/token", token),
        )
    ]


async def under_load(
    broker: Program,
    phases: list[tuple[float, list[str]]],
    steps: list[Step],
    options: argparse.Namespace,
) -> Outcome:
    """Send requests at a steady rate while *steps* are taken."""
    begin = time.time() + 1.5
    load = asyncio.create_task(
        carry_out(Plan(broker.port, phases, options.rate, options.seconds, begin))
    )
    for second, step in steps:
        await asyncio.sleep(max(begin + second - time.time(), 0))
        await step()
    return await load


def report(name: str, outcome: Outcome, broker: Program) -> int:
    """Print one line; the number of requests that failed."""
    failed = sum(outcome.failures.values())
    took = summary([seconds for _, seconds in outcome.latencies])
    print(f"{name}: failed {outcome.failures or 0}, {took}", flush=True)
    if failed:
        print(outcome.first_failure)
        print(broker.log()[-3000:])
    return failed


async def of_the_api_key(options: argparse.Namespace) -> int:
    """Both API keys are valid, then the old one is revoked, then the settings name only the new one."""
    with tempfile.TemporaryDirectory() as folder:
        secrets_dir = Path(folder)
        async with running_server() as server:
            where = {"DATA_DIR": str(server.data_dir)}

            async def chat_broker_server(*arguments: str) -> dict[str, str]:
                code, out, err = await run_command(
                    "chat-server", *arguments, "--json", environment=where
                )
                assert code == 0, err
                made: dict[str, str] = json.loads(out)
                return made

            made = await chat_broker_server("create-project", "--name", "Rotation")
            old = json.loads(
                (
                    await run_command(
                        "chat-server",
                        "keys",
                        "list",
                        made["project_id"],
                        "--json",
                        environment=where,
                    )
                )[1]
            )[0]["id"]
            (secrets_dir / "chat_api_key").write_text(made["api_key"])
            async with (
                running_broker(CHAT_BASE_URL=server.url, SECRETS_DIR=folder, **QUIET) as broker,
                httpx.AsyncClient(base_url=broker.url, trust_env=False, timeout=30) as http,
            ):
                tokens = await sign_in(http)
                asked = chat(tokens, await a_room(http, tokens))
                new = ""

                async def offer() -> None:
                    nonlocal new
                    new = (await chat_broker_server("keys", "create", made["project_id"]))[
                        "api_key"
                    ]
                    (secrets_dir / "chat_api_key_next").write_text(new)
                    broker.process.send_signal(signal.SIGHUP)

                async def revoke() -> None:
                    await chat_broker_server("keys", "revoke", old)

                async def settle() -> None:
                    (secrets_dir / "chat_api_key").write_text(new)
                    (secrets_dir / "chat_api_key_next").unlink()
                    broker.process.send_signal(signal.SIGHUP)

                third = options.seconds / 4
                steps = [(third, offer), (2 * third, revoke), (3 * third, settle)]
                outcome = await under_load(broker, [(0.0, asked)], steps, options)
                return report("the project's API key", outcome, broker)


async def of_the_signing_key(options: argparse.Namespace) -> int:
    """Old and new chat tokens stay valid across three new signing keys."""
    async with (
        running_broker(**QUIET) as broker,
        httpx.AsyncClient(base_url=broker.url, trust_env=False, timeout=30) as http,
    ):
        tokens = await sign_in(http)
        old = []
        for token in tokens:
            headers = {"authorization": f"Bearer {token}"}
            old.append(str((await http.post("/chat/token", headers=headers)).json()["token"]))
        asked = [
            one
            for app, minted in zip(tokens, old, strict=True)
            for one in (
                request("GET", "/chat/verify", minted),
                request("POST", "/chat/token", app),
                request("GET", "/chat/verify", minted),
            )
        ]
        kids: set[str] = set()
        wrong: list[str] = []

        async def mint_and_verify() -> None:
            turn = 0
            while True:
                turn += 1
                app = {"authorization": f"Bearer {tokens[turn % len(tokens)]}"}
                minted = await http.post("/chat/token", headers=app)
                fresh = {"authorization": f"Bearer {minted.json().get('token')}"}
                verified = await http.get("/chat/verify", headers=fresh)
                wrong.extend(
                    answer.text for answer in (minted, verified) if answer.status_code != 200
                )
                await asyncio.sleep(0.03)

        async def rotate() -> None:
            code, out, err = await run_command(
                "chat-server",
                "rotate-signing-key",
                "--json",
                environment={"DATA_DIR": str(broker.data_dir)},
            )
            assert code == 0, err
            kids.add(json.loads(out)["kid"])

        fourth = options.seconds / 4
        beside = asyncio.create_task(mint_and_verify())
        steps = [(fourth * turn, rotate) for turn in (1, 2, 3)]
        outcome = await under_load(broker, [(0.0, asked)], steps, options)
        beside.cancel()
        published = {
            key["kid"] for key in (await http.get("/.well-known/jwks.json")).json()["keys"]
        }
        assert kids <= published, (kids, published)
        print(f"minted and verified at once: failed {len(wrong)}")
        return report("the chat signing key", outcome, broker) + len(wrong)


async def of_the_identity_provider(options: argparse.Namespace) -> int:
    """The provider's new key is published, then used, then the only one."""
    first, second = SigningKey("first"), SigningKey("second")
    async with (
        provider(first) as idp,
        running_broker(**idp.settings, **QUIET) as broker,
        httpx.AsyncClient(base_url=broker.url, trust_env=False, timeout=30) as http,
    ):
        before = [first.token(idp.issuer, f"user{number}") for number in range(USERS)]
        after = [second.token(idp.issuer, f"user{number}") for number in range(USERS)]
        room = await a_room(http, before)

        async def publish() -> None:
            idp.keys = [first, second]

        async def drop() -> None:
            idp.keys = [second]

        fourth = options.seconds / 4
        phases = [(0.0, chat(before, room)), (2 * fourth, chat(after, room))]
        steps = [(fourth, publish), (3 * fourth, drop)]
        outcome = await under_load(broker, phases, steps, options)
        print(f"questions to the key set: {idp.asked}")
        return report("the identity provider's key", outcome, broker)


async def measure(options: argparse.Namespace) -> int:
    """Run all three rotations; the number of requests that failed."""
    print(
        f"{options.rate:g} requests/s for {options.seconds:g} s each, load {os.getloadavg()[0]:.1f}"
    )
    failed = await of_the_api_key(options)
    failed += await of_the_signing_key(options)
    return failed + await of_the_identity_provider(options)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200, help="requests a second")
    parser.add_argument(
        "--seconds", type=float, default=20, help="how long each of the three lasts"
    )
    raise SystemExit(1 if asyncio.run(measure(parser.parse_args())) else 0)
