"""How the broker is: versions, modes, what it depends on, counts. No secret."""

import contextlib
import platform
from typing import Any, Protocol, cast

from fastapi import Request, Response

from chat_broker.admin.keys import Scope
from chat_broker.admin.routes.router import admin_router, described, needs, operators
from chat_broker.api.requests import read_query
from chat_broker.api.responses import as_json
from chat_broker.observability.readiness import Readiness
from chat_broker.settings import Settings
from chat_broker.upstream.chat_api import Upstream
from chat_broker_kit.text.instants import instant
from chat_broker_sdk import ChatError
from chat_broker_sdk import __version__ as sdk_version

router = admin_router("admin: status")


class StorageStatus(Protocol):
    """What is told of the storage, whichever it is."""

    @property
    def kind(self) -> str:
        """Which database: `sqlite` or `postgres`."""

    @property
    def schema_version(self) -> str:
        """The version of the database's schema."""

    @property
    def hints_state(self) -> str:
        """Whether hints of other replicas arrive: `off`, `ok` or `lost`."""

    @property
    def other_processes(self) -> int:
        """How many other processes use the database."""


@router.get("/status", **described(answer={"type": "object"}))
@needs(Scope.STATUS_READ, "status.read")
async def status(request: Request) -> Response:
    """How the broker is."""
    read_query(request.scope["query_string"])
    kept = request.app.state
    settings = cast("Settings", kept.settings)
    storage = cast("StorageStatus", kept.storage)
    upstream = cast("Upstream", kept.upstream)
    found = await cast("Readiness", kept.readiness).look()
    checks = found["checks"]
    embedded = upstream.server is not None
    return as_json(
        {
            "status": found["status"],
            "time": instant(),
            "versions": {
                "broker": request.app.version,
                "sdk": sdk_version,
                "schema": storage.schema_version,
                "python": platform.python_version(),
            },
            "modes": {
                "environment": settings.environment,
                "chat_api": "embedded" if embedded else "remote",
                "auth": list(settings.auth),
                "workers": settings.workers,
                "admin_port": settings.admin_port,
                "route_prefix": settings.route_prefix,
            },
            "upstream": {
                "kind": "embedded" if embedded else "remote",
                "url": None if embedded else settings.chat_base_url,
                "state": checks["upstream"],
            },
            "database": {
                "kind": storage.kind,
                "state": checks["database"],
            },
            "redis": {
                "state": checks["redis"],
                "hints": storage.hints_state,
            },
            "checks": checks,
            "counts": await _counts(request, storage, upstream),
        }
    )


async def _counts(request: Request, storage: StorageStatus, upstream: Upstream) -> dict[str, Any]:
    side = operators(request)
    now = instant()
    counts: dict[str, Any] = {
        "users": None,
        "rooms": None,
        "bans": await side.book.count(now),
        "admin_keys": sum(key.good(now) for key in await side.keys.all()),
        "audit_records": await side.chain.length(),
        "other_processes": storage.other_processes,
    }
    with contextlib.suppress(ChatError):  # its state is told above; the rest is worth having
        counts["users"] = (await upstream.chat.users.list(limit=1)).total
        counts["rooms"] = (await upstream.chat.rooms.list(limit=1)).total
    if upstream.server is not None:
        counts |= {
            name: value for name, value in upstream.server.facts().items() if isinstance(value, int)
        }
    return counts
