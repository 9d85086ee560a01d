"""Everything the broker depends on, and how to find out how each is."""

from functools import partial
from typing import TYPE_CHECKING

from chat_broker.auth.choose import Chain
from chat_broker.observability.readiness import Dependency
from chat_broker.settings import Settings
from chat_broker.storage.open import State
from chat_broker.upstream.chat_api import Upstream
from chat_broker_kit.database.transactions import Query, all_rows
from chat_broker_kit.locations import location
from chat_broker_kit.logs.outages import GOOD

if TYPE_CHECKING:
    from pydantic import SecretStr


def dependencies_of(
    settings: Settings, state: State, chain: Chain, upstream: Upstream
) -> dict[str, Dependency]:
    """By the name that /readyz and /metrics give it."""

    async def database() -> str:
        await state.database.read(partial(all_rows, Query("SELECT 1")))
        return "ok" if state.pulse.writes else "degraded: writes are refused"

    async def redis() -> str:
        if state.redis is None:
            return "off"
        if not await state.redis.takes_writes():
            return "degraded: commands are not answered, or refused"
        if not state.hints.live:
            return "degraded: hints of other replicas do not arrive"
        return upstream.bus_state if upstream.bus_state not in GOOD else "ok"

    async def identity_provider() -> str:
        found = await chain.providers()
        bad = sorted(f"{name} is {how}" for name, how in found.items() if how != "ok")
        return f"degraded: {', '.join(bad)}" if bad else "ok"

    async def processes() -> str:
        if state.pulse.conflict:
            return "degraded: another broker uses this database, and there is no REDIS_URL"
        return "ok"

    own = settings.broker_database
    return {
        "database": Dependency(location(own), database),
        "redis": Dependency(_location(settings.redis_url), redis),
        "upstream": Dependency(_chat_api(settings), upstream.ready),
        "identity_provider": Dependency(chain.locations, identity_provider),
        "processes": Dependency(location(own), processes),
    }


def _chat_api(settings: Settings) -> str:
    if settings.chat_base_url is not None:
        return location(settings.chat_base_url)
    if settings.chat_database_url is not None:
        return _location(settings.chat_database_url)
    return location(f"sqlite:///{settings.data_dir}/chat.db")


def _location(secret: "SecretStr | None") -> str:
    return "" if secret is None else location(secret.get_secret_value())
