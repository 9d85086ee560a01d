"""A program's own parameters for its database."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from chat_broker_kit.database.migrations import Migrations


@dataclass(frozen=True, slots=True)
class Profile:
    """A program's database: its migrations, its limits, and the exceptions its callers get."""

    store: str | None
    """A name for the log. None if the program logs outages itself."""
    migrations: Migrations
    outage: type[Exception]
    """The base class of the next two exceptions."""
    unavailable: Callable[[str], Exception]
    """Makes the exception for a database that does not answer. The argument is the reason, for the log only."""
    not_writable: Callable[[str], Exception]
    """Makes the exception for a refused write while reads work. The argument is the reason, for the log only."""
    broken: Callable[[Exception], Exception] = lambda error: error
    """Makes the exception for a permanent error, such as a missing table or a damaged row."""
    lookups_at_once: int | None = None
    """How many reads that are not slow use Postgres connections at once. Limits the connections opened by a burst."""
    statistics: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Planner statistics for SQLite (`tell_planner`), by table and index."""
