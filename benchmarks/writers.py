"""Sixteen writers on SQLite: `python -m benchmarks.writers`.

Twelve users write messages into four rooms of the embedded Chat API, and four operators mint tokens on behalf, each of
which is a row of the audit, all as fast as they are answered, for a minute. Then the broker is killed outright and
started again: whatever was acknowledged must be there once, in the order of `seq`, and the audit's chain be whole.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.programs import Program, run_command, running_broker

from .rotation import QUIET, sign_in
from .steady import summary

ADMIN_KEY = "a" * 40
WRITERS, OPERATORS, ROOMS = 12, 4, 4


@dataclass
class Ledger:
    """The messages that were sent, and those that were acknowledged."""

    said: dict[str, list[str]] = field(default_factory=dict)
    minted: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)
    first_failure: str = ""

    def note(self, answer: httpx.Response, wanted: int, began: float) -> bool:
        """Was it acknowledged?"""
        self.took.append(time.perf_counter() - began)
        self.statuses[str(answer.status_code)] += 1
        if answer.status_code != wanted and not self.first_failure:
            self.first_failure = answer.text
        return answer.status_code == wanted


def bearer(token: str) -> dict[str, str]:
    """The headers of a request with *token*."""
    return {"authorization": f"Bearer {token}"}


async def write(ledger: Ledger, broker: Program, token: str, room: str, until: float) -> None:
    """One user, who posts a message as soon as the last one is acknowledged."""
    url = f"{broker.url}/chat/rooms/{room}/messages"
    async with httpx.AsyncClient(trust_env=False, timeout=30, headers=bearer(token)) as http:
        turn = 0
        while time.monotonic() < until:
            turn += 1
            body, began = {"content": f"message {turn}"}, time.perf_counter()
            answer = await http.post(url, json=body)
            if ledger.note(answer, 201, began):
                ledger.said[room].append(answer.json()["id"])


async def mint(ledger: Ledger, broker: Program, user: str, until: float) -> None:
    """One operator."""
    url = f"{broker.url}/admin/users/external:{user}/token"
    async with httpx.AsyncClient(trust_env=False, timeout=30, headers=bearer(ADMIN_KEY)) as http:
        while time.monotonic() < until:
            began = time.perf_counter()
            answer = await http.post(url, json={"reason": "a benchmark"})
            ledger.minted += ledger.note(answer, 200, began)


async def kept(http: httpx.AsyncClient, token: str, room: str) -> list[dict[str, Any]]:
    """Every message of the room, oldest first."""
    found: list[dict[str, Any]] = []
    after = 0
    while True:
        answer = await http.get(
            f"/chat/rooms/{room}/messages",
            params={"after": after, "limit": 100},
            headers=bearer(token),
        )
        page = answer.raise_for_status().json()
        found += page["items"]
        if not page["has_more"]:
            return found
        after = found[-1]["seq"]


async def measure(seconds: float) -> int:
    """Run it; the number of errors."""
    folder, ledger = Path(tempfile.mkdtemp()), Ledger()
    settings = {**QUIET, "ADMIN_KEY": ADMIN_KEY}
    async with running_broker(folder, **settings) as broker:
        async with httpx.AsyncClient(base_url=broker.url, trust_env=False, timeout=30) as http:
            tokens = await sign_in(http, WRITERS)
            rooms = []
            for _ in range(ROOMS):
                made = await http.post("/chat/rooms", json={"name": "R"}, headers=bearer(tokens[0]))
                rooms.append(str(made.json()["id"]))
                ledger.said[rooms[-1]] = []
                for token in tokens:
                    joined = await http.post(f"/chat/rooms/{rooms[-1]}/join", headers=bearer(token))
                    joined.raise_for_status()
        until = time.monotonic() + seconds
        await asyncio.gather(
            *(
                write(ledger, broker, token, rooms[n % ROOMS], until)
                for n, token in enumerate(tokens)
            ),
            *(mint(ledger, broker, f"user{n}", until) for n in range(OPERATORS)),
        )
        await broker.kill()
    errors = sum(count for status, count in ledger.statuses.items() if status[0] != "2")
    wrong = 0
    async with (
        running_broker(folder, **settings) as broker,
        httpx.AsyncClient(base_url=broker.url, trust_env=False, timeout=30) as http,
    ):
        token = (await sign_in(http, 1))[0]
        for room, said in ledger.said.items():
            there = await kept(http, token, room)
            ids = [message["id"] for message in there]
            wrong += len(set(said) - set(ids)) + len(ids) - len(set(ids))
            wrong += [message["seq"] for message in there] != list(range(1, len(there) + 1))
        verified, _, problem = await run_command(
            "chat-broker",
            "admin",
            "audit",
            "verify",
            "--json",
            environment={"CHAT_BROKER_URL": broker.url, "CHAT_BROKER_ADMIN_KEY": ADMIN_KEY},
        )
        wrong += verified != 0
    said = sum(map(len, ledger.said.values()))
    print(f"{WRITERS + OPERATORS} writers, {seconds:g} s, load average {os.getloadavg()[0]:.1f}")
    print(f"answers: {json.dumps(ledger.statuses)}, errors: {errors}; {summary(ledger.took)}")
    print(f"acknowledged: {said} messages, {ledger.minted} tokens with a row of the audit each")
    print(f"after kill -9: missing, doubled or out of order: {wrong}")
    if errors or verified:
        print(ledger.first_failure, problem)
    return errors + wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    raise SystemExit(1 if asyncio.run(measure(parser.parse_args().seconds)) else 0)
