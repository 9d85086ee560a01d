"""Who is online in a room, on all nodes."""

from collections.abc import Callable, Iterable

from chat_broker_server.cluster.nodes import PresenceUpdate
from chat_broker_server.realtime.connections import RoomKey

_USERS_PER_MESSAGE = 2_000
_ROOMS_PER_CALL = 100


class Presence:
    """Counts the distinct users per room. Messages between nodes may be lost; `announce` repairs that."""

    def __init__(self, broadcast: Callable[[PresenceUpdate], None]) -> None:
        self._broadcast = broadcast
        self.changed: Callable[[RoomKey], None] = lambda _: None
        """Called when another user is in a room, or one less."""
        self._here: dict[RoomKey, dict[str, int]] = {}
        self._other_nodes: dict[RoomKey, dict[str, set[str]]] = {}
        self._to_announce: list[RoomKey] = []

    def online(self, room: RoomKey) -> int:
        """How many users are subscribed to *room*."""
        here = self._here.get(room, {})
        other_nodes = self._other_nodes.get(room)
        return len(set(here).union(*other_nodes.values())) if other_nodes else len(here)

    def add(self, room: RoomKey, user_id: str) -> None:
        """Called for each socket of this node that subscribes."""
        users = self._here.setdefault(room, {})
        users[user_id] = users.get(user_id, 0) + 1
        if users[user_id] == 1:
            self._broadcast(PresenceUpdate(*room, came=[user_id]))
            self.changed(room)

    def remove(self, room: RoomKey, user_id: str) -> None:
        """Called for each socket of this node that unsubscribes."""
        users = self._here.get(room, {})
        if user_id not in users:
            return
        users[user_id] -= 1
        if not users[user_id]:
            del users[user_id]
            if not users:
                del self._here[room]
            self._broadcast(PresenceUpdate(*room, went=[user_id]))
            self.changed(room)

    def update_node(self, node: str, update: PresenceUpdate) -> None:
        room = (update.project_id, update.room_id)
        nodes = self._other_nodes.setdefault(room, {})
        users = nodes.setdefault(node, set())
        before = set(users) if update.whole else len(users)
        if update.whole:
            users.clear()
        users.update(update.came)
        users.difference_update(update.went)
        is_change = users != before if update.whole else len(users) != before
        if not users:
            del nodes[node]
            if not nodes:
                del self._other_nodes[room]
        if is_change:
            self.changed(room)

    def remove_node(self, node: str) -> None:
        for room in [room for room, nodes in self._other_nodes.items() if node in nodes]:
            nodes = self._other_nodes[room]
            del nodes[node]
            if not nodes:
                del self._other_nodes[room]
            self.changed(room)

    def announce(self, rooms: Iterable[RoomKey] | None = None) -> None:
        """Send the users of *rooms* to the other nodes again; without *rooms*, of the next few rooms."""
        if rooms is None:
            if not self._to_announce:
                self._to_announce = list(self._here)
            rooms = [
                self._to_announce.pop() for _ in range(min(_ROOMS_PER_CALL, len(self._to_announce)))
            ]
        for room in rooms:
            users = list(self._here.get(room, ()))
            for at in range(0, max(len(users), 1), _USERS_PER_MESSAGE):
                self._broadcast(
                    PresenceUpdate(*room, came=users[at : at + _USERS_PER_MESSAGE], whole=at == 0)
                )

    def announce_all(self) -> None:
        """Send the users of all rooms. Called when a node has joined or has lost messages."""
        self.announce(list(self._here))
