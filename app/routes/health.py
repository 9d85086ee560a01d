"""Is it alive, can it work, and how is it doing?"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from fastapi import APIRouter, Request, Response

from app.metrics import CONTENT_TYPE, Metrics
from app.routes.answers import as_json

router = APIRouter(tags=["health"])

REMEMBERED_FOR = 2.0
PROBE_SECONDS = 3.0

Check = Callable[[], Awaitable[str]]
"""Answers `ok`, `off`, `degraded: …` or `failed: …`."""


class Readiness:
    """Asks everything the broker needs, at most every two seconds, however often it is asked itself.

    Only what is named in *vital* makes it `failed`; without the rest it works in part, and is `degraded`.
    """

    def __init__(self, checks: dict[str, Check], vital: frozenset[str]) -> None:
        self._checks = checks
        self._vital = vital
        self._asked_at = float("-inf")
        self._known: dict[str, Any] = {}
        self._turn = asyncio.Lock()

    async def look(self) -> dict[str, Any]:
        """`status`, and one line for each check."""
        async with self._turn:
            if time.monotonic() - self._asked_at >= REMEMBERED_FOR:
                texts = await asyncio.gather(*(_asked(check) for check in self._checks.values()))
                checks = dict(zip(self._checks, texts, strict=True))
                self._known = {"status": self._judge(checks), "checks": checks}
                self._asked_at = time.monotonic()
        return self._known

    def _judge(self, checks: dict[str, str]) -> str:
        bad = {name for name, text in checks.items() if text not in {"ok", "off"}}
        if any(checks[name].startswith("failed") for name in bad & self._vital):
            return "failed"
        return "degraded" if bad else "ok"


async def _asked(check: Check) -> str:
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            return await check()
    except Exception as error:  # noqa: BLE001 - whatever it is, it does not work
        return f"failed: {type(error).__name__}"


@router.get("/healthz", response_model=None)
async def alive() -> Response:
    """The process answers."""
    return as_json({"status": "ok"})


@router.get("/readyz", response_model=None)
async def ready(request: Request) -> Response:
    """Whether all it needs answers. 503 only if it cannot work at all."""
    found = await cast("Readiness", request.app.state.readiness).look()
    return as_json(found, 503 if found["status"] == "failed" else 200)


@router.get("/metrics", response_model=None)
async def numbers(request: Request) -> Response:
    """Numbers for Prometheus."""
    metrics = cast("Metrics", request.app.state.metrics)
    return Response(metrics.page(), headers={"Content-Type": CONTENT_TYPE})
