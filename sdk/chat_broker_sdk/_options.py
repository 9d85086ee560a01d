"""How long a call may take."""

from dataclasses import dataclass

from ._errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. *connect* for a connection, *read* for one attempt, *total* for a call with all its repeats.

    *patience*: the longest pause before a repeat. A server whose `Retry-After` asks for more ends the call at
    once, so that the caller's own caller can be told instead of being kept waiting.
    """

    connect: float = 1.0
    read: float = 5.0
    total: float = 10.0
    patience: float = 60.0

    def __post_init__(self) -> None:
        if not all(
            0 < value < 86_400 for value in (self.connect, self.read, self.total, self.patience)
        ):
            raise ConfigurationError(
                "Timeouts are seconds above 0 and below a day", code="bad_timeout"
            )


def timeouts(given: "Timeouts | float") -> Timeouts:
    """A single number is the limit of everything."""
    if isinstance(given, Timeouts):
        return given
    return Timeouts(connect=min(1.0, given), read=given, total=given)
