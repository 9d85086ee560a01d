"""The dependencies of the broker, each with its check."""

from typing import TYPE_CHECKING, Protocol

from chat_broker.observability.readiness import Dependency
from chat_broker.settings import Settings
from chat_broker_kit.logs.outages import GOOD
from chat_broker_kit.urls.location import location

if TYPE_CHECKING:
    from pydantic import SecretStr


class Storage(Protocol):
    """The database and Redis. Each state is one that `Dependency.ask` returns."""

    async def database_state(self) -> str:
        """The state of the database. Raises the database's error."""

    async def redis_state(self) -> str:
        """The state of Redis; `off` without REDIS_URL."""

    async def processes_state(self) -> str:
        """Whether all processes on the database notify each other."""


class IdentityProviders(Protocol):
    """The providers that verify credentials."""

    locations: str

    async def providers(self) -> dict[str, str]:
        """The state of each provider by its name; `ok` is good."""


class ChatApi(Protocol):
    """A remote Chat API, or the embedded one."""

    @property
    def bus_state(self) -> str:
        """The embedded Chat API's connection to other nodes: `off`, `ok` or `degraded: …`."""

    async def ready(self) -> str:
        """`ok`, or what is wrong."""


def dependencies_of(
    settings: Settings, storage: Storage, providers: IdentityProviders, upstream: ChatApi
) -> dict[str, Dependency]:
    """Each dependency by its name in /readyz and /metrics."""

    async def redis() -> str:
        state = await storage.redis_state()
        if state == "ok" and upstream.bus_state not in GOOD:
            return upstream.bus_state
        return state

    async def identity_provider() -> str:
        states = await providers.providers()
        bad = sorted(f"{name} is {state}" for name, state in states.items() if state != "ok")
        return f"degraded: {', '.join(bad)}" if bad else "ok"

    own = settings.broker_database
    return {
        "database": Dependency(location(own), storage.database_state),
        "redis": Dependency(_location(settings.redis_url), redis),
        "upstream": Dependency(_chat_api(settings), upstream.ready),
        "identity_provider": Dependency(providers.locations, identity_provider),
        "processes": Dependency(location(own), storage.processes_state),
    }


def _chat_api(settings: Settings) -> str:
    if settings.chat_base_url is not None:
        return location(settings.chat_base_url)
    if settings.chat_database_url is not None:
        return _location(settings.chat_database_url)
    return location(f"sqlite:///{settings.data_dir}/chat.db")


def _location(secret: "SecretStr | None") -> str:
    return "" if secret is None else location(secret.get_secret_value())
