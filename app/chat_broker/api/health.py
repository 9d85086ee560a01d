"""Is it alive, can it work, and how is it doing?"""

from typing import cast

from fastapi import APIRouter, Request, Response

from chat_broker.api.responses import as_json
from chat_broker.observability.metrics import CONTENT_TYPE, Metrics
from chat_broker.observability.readiness import Readiness

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=None)
async def alive() -> Response:
    """The process answers."""
    return as_json({"status": "ok"})


@router.get("/readyz", response_model=None)
async def ready(request: Request) -> Response:
    """Whether all it needs answers. 503 only if it cannot work at all, or is about to end."""
    found = await cast("Readiness", request.app.state.readiness).look()
    return as_json(found, 503 if found["status"] in {"failed", "draining"} else 200)


@router.get("/metrics", response_model=None)
async def numbers(request: Request) -> Response:
    """Numbers for Prometheus."""
    metrics = cast("Metrics", request.app.state.metrics)
    metrics.readiness = await cast("Readiness", request.app.state.readiness).look()
    return Response(metrics.page(), headers={"Content-Type": CONTENT_TYPE})
