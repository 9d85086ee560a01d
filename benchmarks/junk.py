"""What junk credentials do to everybody else: `python -m benchmarks.junk`.

A broker in `jwt` mode with a key set on a port, over the embedded Chat API. Good traffic at a steady rate, by distinct
users of one address; every other second junk of 8 KiB comes too, from another address (both through a trusted
proxy's X-Forwarded-For), one kind after the other. So both halves meet the same machine. Limits are set so high
that no junk is refused for its number; `--limits` leaves the limits per user and for failed sign-ins as they are by default.
"""

import argparse
import asyncio
import json
import os
import random
import secrets
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import httpx

from tests.conftest import postgres_database
from tests.programs import Program, running_broker

from .provider import SigningKey, b64, provider
from .steady import Plan, carry_out, request, share, summary

PLENTY = dict.fromkeys(
    ("RATE_IP", "RATE_TOKEN", "RATE_WRITE", "RATE_READ", "RATE_AUTH_FAILURES"), "10000000/minute"
)
GOOD = ("X-Forwarded-For", "203.0.113.10")
BAD = ("X-Forwarded-For", "198.51.100.66")
JUNK_SIZE = 8192
"""The longest token that is looked at; one character more is refused unread."""


@dataclass(frozen=True)
class Users:
    """Tokens of distinct users, and the room that all of them are in."""

    tokens: list[str]
    room: str

    def requests(self) -> list[str]:
        """Reads for the most part, as frontends do; a fifth writes, a tenth asks for a chat token."""
        messages = f"/chat/rooms/{self.room}/messages"
        say = json.dumps({"content": "See you at noon?"})
        found = []
        for turn, token in enumerate(self.tokens):
            match turn % 10:
                case 0:
                    found.append(request("POST", "/chat/token", token, GOOD))
                case 1 | 2:
                    found.append(request("POST", messages, token, GOOD, body=say))
                case 3 | 4 | 5:
                    found.append(request("GET", "/chat/rooms", token, GOOD))
                case _:
                    found.append(request("GET", messages, token, GOOD))
        return found


def junk(key: SigningKey, issuer: str) -> dict[str, list[str]]:
    """Invalid requests by kind, each as expensive to refuse as possible."""
    stranger = SigningKey("stranger")

    def padded(signer: SigningKey, kid: str) -> str:
        short = len(signer.token(issuer, "mallory", kid=kid, pad=""))
        return signer.token(
            issuer, "mallory", kid=kid, pad="x" * ((JUNK_SIZE - short) * 3 // 4 - 2)
        )

    def altered(token: str) -> str:
        return f"{token.rpartition('.')[0]}.{b64(secrets.token_bytes(256))}"

    def ask(token: str, *more: tuple[str, str]) -> str:
        return request("GET", "/chat/rooms", token, BAD, *more)

    noise = [bytes(random.choices(range(0x80, 0x100), k=JUNK_SIZE)) for _ in range(20)]
    unknown = [padded(stranger, secrets.token_hex(8)) for _ in range(200)]
    wrong = [altered(padded(key, key.kid)) for _ in range(200)]
    return {
        "random bytes": [ask(one.decode("latin-1")) for one in noise],
        "random base64url": [ask(secrets.token_urlsafe(JUNK_SIZE * 3 // 4)) for _ in range(20)],
        "unknown kid": [ask(one) for one in unknown],
        "wrong signature": [ask(one) for one in wrong],
        "header bomb": [ask("x", *((f"x-{n}", "y" * 300) for n in range(100)))],
    }


async def prepare(broker: Program, key: SigningKey, issuer: str, count: int) -> Users:
    """Sign every user in once, and put all into one room."""
    tokens = [key.token(issuer, f"user-{n}") for n in range(count)]
    async with httpx.AsyncClient(base_url=broker.url, trust_env=False, timeout=30) as http:
        owner = {"authorization": f"Bearer {tokens[0]}"}
        made = await http.post("/chat/rooms", json={"name": "General"}, headers=owner)
        room = str(made.json()["id"])
        for token in tokens:
            joined = await http.post(
                f"/chat/rooms/{room}/join", headers={"authorization": f"Bearer {token}"}
            )
            assert joined.status_code == 200, joined.text
    return Users(tokens, room)


def cpu_seconds(pid: int) -> float:
    """CPU time the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Bench:
    """What every measurement needs."""

    broker: Program
    good: list[str]
    arguments: argparse.Namespace

    async def beside(self, name: str, bad: list[str]) -> int:
        """Send valid traffic all the time and junk every other second; the number of valid requests that failed."""
        rate, seconds = self.arguments.rate, self.arguments.seconds
        port, begin = self.broker.port, time.time() + 2.0
        on_and_off = [(float(second), bad if second % 2 else []) for second in range(int(seconds))]
        outcome, answers = await asyncio.gather(
            carry_out(Plan(port, [(0.0, self.good)], rate, seconds, begin)),
            carry_out(Plan(port, on_and_off, self.arguments.junk, seconds, begin)),
        )
        alone = [took for at, took in outcome.latencies if not int(at) % 2]
        together = [took for at, took in outcome.latencies if int(at) % 2]
        before = cpu_seconds(self.broker.process.pid)
        only = await carry_out(Plan(port, [(0.0, bad)], self.arguments.junk, 3))
        each = (cpu_seconds(self.broker.process.pid) - before) / sum(only.statuses.values())
        ratio = share(together, 0.99) / share(alone, 0.99)
        failed = sum(outcome.failures.values())
        print(f"{name}: p99 x {ratio:.2f}, good requests failed: {outcome.failures or 0}")
        print(f"  without: {summary(alone)}")
        print(f"  with:    {summary(together)}")
        print(f"  junk:    {answers.statuses}, {each * 1e6:.0f} us of CPU each", flush=True)
        if failed:
            print(outcome.first_failure)
        return failed


async def measure(arguments: argparse.Namespace) -> int:
    """Run and print all measurements; the number of valid requests that failed."""
    key = SigningKey("k1")
    settings = {"RATE_IP": PLENTY["RATE_IP"]} if arguments.limits else PLENTY
    async with AsyncExitStack() as stack:
        idp = await stack.enter_async_context(provider(key))
        if arguments.postgres:
            url = await stack.enter_async_context(postgres_database())
            settings = {**settings, "DATABASE_URL": url, "CHAT_DATABASE_URL": url}
        settings = {**settings, **idp.settings, "TRUSTED_PROXIES": "127.0.0.1/32"}
        broker = await stack.enter_async_context(running_broker(LOG_LEVEL="WARNING", **settings))
        users = await prepare(broker, key, idp.issuer, arguments.users)
        kinds = junk(key, idp.issuer)
        kinds["all of them"] = [
            one
            for turn in zip(*map(cycle, kinds.values()), range(100), strict=False)
            for one in turn[:-1]
        ]
        bench = Bench(broker, users.requests(), arguments)
        await carry_out(Plan(broker.port, [(0.0, bench.good)], arguments.rate, 3))  # warm
        print(
            f"{arguments.rate:g} good requests/s by {len(users.tokens)} users all the time,"
            f" {arguments.junk:g} junk/s every other second, {arguments.seconds:g} s for each kind,"
            f" load average {os.getloadavg()[0]:.1f}"
        )
        wanted = [name for name in arguments.only.split(",") if name] or list(kinds)
        failed = 0
        for name in wanted:
            failed += await bench.beside(name, kinds[name])
        print(f"questions to the key set: {idp.asked}, load average {os.getloadavg()[0]:.1f}")
        if failed:
            print(broker.log()[-4000:])
        return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=100, help="good requests a second")
    parser.add_argument("--junk", type=float, default=200, help="junk requests a second")
    parser.add_argument("--seconds", type=float, default=20, help="how long for each kind")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--only", default="", help="kinds of junk, with commas between")
    parser.add_argument("--limits", action="store_true", help="default limits for failed sign-ins")
    parser.add_argument("--postgres", action="store_true", help="both databases on Postgres")
    raise SystemExit(1 if asyncio.run(measure(parser.parse_args())) else 0)
