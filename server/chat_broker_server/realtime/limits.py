"""What one socket, one user and one node may use of this server. The defaults suit a chat."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the live side; times in seconds, sizes in bytes."""

    message_bytes: int = 65_536  # also of one polling request
    send_queue_bytes: int = (
        2_000_000  # what may wait for a slow reader before it is cut off: any answer, and events
    )
    auth_deadline: float = 10.0  # from opening a connection to a valid token
    events_per_second: float = 10.0
    event_burst: int = 30
    refused_burst: int = 100  # calls over the rate that are answered before the socket is closed
    protocol_errors: int = 3
    rooms_per_socket: int = 128
    sockets_per_user: int = 20
    sockets: int = 20_000
    missed_messages: int = 200
    typing_seconds: float = 6.0
    expiry_grace: float = 30.0
    recheck_seconds: float = 8.0  # a lost hint is healed within ten seconds
    close_deadline: float = 1.0  # how long a revocation waits for other nodes
    last_words: float = 1.0  # how long a peer gets to fetch its last event
    cut_after: float = 5.0  # a peer that does not read its last event is dropped then
    gap_wait: float = 0.05  # how long a message may be overtaken before the database is asked
    heartbeat: float = 2.0
    ping_interval: float = 25.0
    ping_timeout: float = 20.0
