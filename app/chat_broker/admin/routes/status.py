"""The state of the broker: versions, modes, dependencies and counts. No secret."""

import contextlib
import platform
from typing import Any, Protocol, cast

from fastapi import Request, Response

from chat_broker.admin.keys import AdminScope
from chat_broker.admin.routes.router import admin_router, admin_services, described, needs
from chat_broker.api.responses import as_json
from chat_broker.observability.readiness import Readiness
from chat_broker.settings import Settings
from chat_broker.upstream.chat_api import Upstream
from chat_broker_kit.text.timestamps import format_timestamp
from chat_broker_sdk import ChatError
from chat_broker_sdk import __version__ as sdk_version

router = admin_router("admin: status")


class StorageStatus(Protocol):
    """The state of the storage, whichever it is."""

    @property
    def kind(self) -> str:
        """The database in use: `sqlite` or `postgres`."""

    @property
    def schema_version(self) -> str:
        """The number of the last migration."""

    @property
    def hints_state(self) -> str:
        """Whether hints of other replicas arrive: `off`, `ok` or `lost`."""

    @property
    def other_processes(self) -> int:
        """The number of other processes on the same database."""


@router.get("/status", **described(answer={"type": "object"}))
@needs(AdminScope.STATUS_READ, "status.read")
async def status(request: Request) -> Response:
    """The state of the broker and of what it depends on."""
    state = request.app.state
    settings = cast("Settings", state.settings)
    storage = cast("StorageStatus", state.storage)
    upstream = cast("Upstream", state.upstream)
    readiness = await cast("Readiness", state.readiness).look()
    checks = readiness["checks"]
    embedded = upstream.server is not None
    return as_json(
        {
            "status": readiness["status"],
            "time": format_timestamp(),
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
    services = admin_services(request)
    now = format_timestamp()
    counts: dict[str, Any] = {
        "users": None,
        "rooms": None,
        "bans": await services.book.count(now),
        "admin_keys": sum(key.is_valid(now) for key in await services.keys.all()),
        "audit_records": await services.chain.length(),
        "other_processes": storage.other_processes,
    }
    with contextlib.suppress(
        ChatError
    ):  # `upstream` above holds its state; the other counts are still worth showing
        counts["users"] = (await upstream.chat.users.list(limit=1)).total
        counts["rooms"] = (await upstream.chat.rooms.list(limit=1)).total
    if upstream.server is not None:
        counts |= {
            name: value for name, value in upstream.server.facts().items() if isinstance(value, int)
        }
    return counts
