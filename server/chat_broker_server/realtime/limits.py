"""Limits of a socket, a user and a node. The defaults suit a chat."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the realtime side. Times are in seconds, sizes in bytes."""

    message_bytes: int = 65_536  # also of one polling request
    send_queue_bytes: int = 2_000_000  # queued for a slow client before it is disconnected
    auth_deadline: float = 10.0  # from opening a connection to a valid token
    events_per_second: float = 10.0
    event_burst: int = 30
    refused_burst: int = 100  # events over the rate that get an error before the socket is closed
    protocol_errors: int = 3
    rooms_per_socket: int = 128
    sockets_per_user: int = 20
    sockets: int = 20_000
    missed_messages: int = 200
    typing_seconds: float = 6.0
    expiry_grace: float = 30.0
    recheck_seconds: float = (
        8.0  # so that a lost message between nodes is repaired within ten seconds
    )
    close_deadline: float = 1.0  # how long a revocation waits for other nodes
    last_words: float = 1.0  # for a client to fetch its last event
    cut_after: float = 5.0  # then a client that does not read is dropped
    gap_wait: float = (
        0.05  # how long to wait for a missing message before reading it from the database
    )
    told_again_after: float = (
        0.1  # how soon the state of a message is told again; those until then are merged
    )
    heartbeat: float = 2.0
    ping_interval: float = 25.0
    ping_timeout: float = 20.0
