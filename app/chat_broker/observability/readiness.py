"""The state of the broker's dependencies, for /readyz and /metrics. The log gets a line when an outage begins and ends."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chat_broker_kit.logs.outages import GOOD, Outages
from chat_broker_kit.tasks import cancel_and_wait

REMEMBERED_FOR = 2.0
PROBE_SECONDS = 3.0
FOLLOWED_EVERY = 5.0
"""Seconds between two checks during an outage, so that the log has its end."""


@dataclass(frozen=True, slots=True)
class Dependency:
    """A dependency of the broker. *where*: its location for operators, without credentials.

    *ask* returns `ok`, `off`, `degraded: …` or `failed: …`; an exception means `failed`.
    """

    where: str
    ask: Callable[[], Awaitable[str]]


class Readiness:
    """Checks all dependencies, at most every two seconds.

    A failed dependency in *vital* makes the broker `failed`; any other one makes it `degraded`.
    """

    def __init__(self, dependencies: Mapping[str, Dependency], vital: frozenset[str]) -> None:
        self.dependencies = dict(dependencies)
        self._vital = vital
        self._asked_at = float("-inf")
        self._known: dict[str, Any] = {}
        self._turn = asyncio.Lock()
        self._outages = Outages()
        self._following: asyncio.Task[None] | None = None
        self._draining = False

    async def look(self) -> dict[str, Any]:
        """`status`, and in `checks` the state of each dependency."""
        async with self._turn:
            if time.monotonic() - self._asked_at >= REMEMBERED_FOR:
                answers = await asyncio.gather(*map(_answer, self.dependencies.values()))
                checks = dict(zip(self.dependencies, answers, strict=True))
                self._known = {"status": self._judge(checks), "checks": checks}
                self._asked_at = time.monotonic()
                for name, answer in checks.items():
                    self._outages.note(name, answer, where=self.dependencies[name].where)
                if self._outages and self._following is None:
                    self._following = asyncio.create_task(self._follow(), name="readiness")
        return {**self._known, "status": "draining"} if self._draining else self._known

    def report_draining(self) -> None:
        """Report `draining` from now on: the process is about to end."""
        self._draining = True

    async def close(self) -> None:
        """Stop the checks of a running outage."""
        if self._following is not None:
            await cancel_and_wait(self._following)

    async def _follow(self) -> None:
        while self._outages:
            await asyncio.sleep(FOLLOWED_EVERY)
            await self.look()
        self._following = None

    def _judge(self, checks: Mapping[str, str]) -> str:
        bad = {name for name, answer in checks.items() if answer not in GOOD}
        if any(checks[name].startswith("failed") for name in bad & self._vital):
            return "failed"
        return "degraded" if bad else "ok"


async def _answer(dependency: Dependency) -> str:
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            return await dependency.ask()
    except Exception as error:  # noqa: BLE001 - whatever it is, it does not work
        return f"failed: {type(error).__name__}"
