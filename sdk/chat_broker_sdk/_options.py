"""How long a call may take."""

from dataclasses import astuple, dataclass

from ._errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds. Raises ConfigurationError for a value outside 0 to 86,400.

    *connect*: opening a connection. *read*: one attempt. *total*: a call with all its retries.
    *patience*: the longest pause before a retry. A server whose `Retry-After` asks for more ends the call at
    once with that error.
    """

    connect: float = 1.0
    read: float = 5.0
    total: float = 10.0
    patience: float = 60.0

    def __post_init__(self) -> None:
        if not all(0 < value < 86_400 for value in astuple(self)):
            raise ConfigurationError(
                "Timeouts are seconds above 0 and below a day", code="bad_timeout"
            )


def timeouts(value: "Timeouts | float") -> Timeouts:
    """*value* as Timeouts. A number limits an attempt and a call, and connecting where it is below 1 s."""
    if isinstance(value, Timeouts):
        return value
    return Timeouts(connect=min(1.0, value), read=value, total=value)
