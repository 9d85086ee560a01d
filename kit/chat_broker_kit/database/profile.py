"""What differs between the databases of two programs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from chat_broker_kit.database.migrations import Migrations


@dataclass(frozen=True, slots=True)
class Profile:
    """How a program uses its database, and what its callers hear while the database cannot serve."""

    store: str | None
    """What is kept there, for the log. None if the program itself says where outages begin and end."""
    migrations: Migrations
    outage: type[Exception]
    """Of which the following two are."""
    unavailable: Callable[[str], Exception]
    """What to raise while it does not answer. Called with the reason, which may go to the log; callers must not see it."""
    not_writable: Callable[[str], Exception]
    """What to raise for a write that is refused while reads are answered."""
    broken: Callable[[Exception], Exception] = lambda error: error
    """What to raise for an error that will not pass: a table is missing, a row is damaged."""
    lookups_at_once: int | None = None
    """Of Postgres: how many reads that are not slow share connections. More would open connections in a burst."""
    statistics: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Of SQLite: what its planner is told, by table and index; see `statistics`."""
