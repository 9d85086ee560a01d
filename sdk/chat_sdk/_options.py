"""How long a call may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. *connect* for a connection, *read* for one attempt, *total* for a call with all its repeats."""

    connect: float = 1.0
    read: float = 5.0
    total: float = 10.0

    def __post_init__(self) -> None:
        from ._errors import ConfigurationError

        if not all(0 < value < 86_400 for value in (self.connect, self.read, self.total)):
            raise ConfigurationError(
                "Timeouts are seconds above 0 and below a day", code="bad_timeout"
            )


def timeouts(given: "Timeouts | float") -> Timeouts:
    """A single number is the limit of everything."""
    if isinstance(given, Timeouts):
        return given
    return Timeouts(connect=min(1.0, given), read=given, total=given)
