"""What has happened on the live side since the start, for metrics."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """Counters; they only grow."""

    events_in: int = 0
    events_out: int = 0
    protocol_errors: int = 0
    refused_over_rate: int = 0
    handshakes_refused: int = 0
    origins_refused: int = 0
    slow_consumers_cut: int = 0
    gaps_filled: int = 0
