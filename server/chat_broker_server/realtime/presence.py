"""Who is online in a room, over all nodes as far as they have told one another."""

from collections.abc import Callable, Iterable

from chat_broker_server.cluster.nodes import Online
from chat_broker_server.realtime.connections import RoomKey

_USERS_A_MESSAGE = 2_000
_ROOMS_A_BEAT = 100


class Presence:
    """Counts distinct users per room. Hints only: what a node says anew replaces what it said before."""

    def __init__(self, say: Callable[[Online], None]) -> None:
        self._say = say
        self._here: dict[RoomKey, dict[str, int]] = {}
        self._elsewhere: dict[RoomKey, dict[str, set[str]]] = {}
        self._to_repeat: list[RoomKey] = []

    def online(self, room: RoomKey) -> int:
        """How many users listen to *room*."""
        here = self._here.get(room, {})
        elsewhere = self._elsewhere.get(room)
        return len(set(here).union(*elsewhere.values())) if elsewhere else len(here)

    def came(self, room: RoomKey, user_id: str) -> None:
        """One more socket of this user listens here."""
        users = self._here.setdefault(room, {})
        users[user_id] = users.get(user_id, 0) + 1
        if users[user_id] == 1:
            self._say(Online(*room, came=[user_id]))

    def went(self, room: RoomKey, user_id: str) -> None:
        """One socket of this user listens no more."""
        users = self._here.get(room, {})
        if user_id not in users:
            return
        users[user_id] -= 1
        if not users[user_id]:
            del users[user_id]
            if not users:
                del self._here[room]
            self._say(Online(*room, went=[user_id]))

    def heard(self, node: str, news: Online) -> None:
        """Another node said who came and went there."""
        room = (news.project_id, news.room_id)
        nodes = self._elsewhere.setdefault(room, {})
        users = nodes.setdefault(node, set())
        if news.whole:
            users.clear()
        users.update(news.came)
        users.difference_update(news.went)
        if not users:
            del nodes[node]
            if not nodes:
                del self._elsewhere[room]

    def node_left(self, node: str) -> None:
        """Nobody is online there any more."""
        for room in [room for room, nodes in self._elsewhere.items() if node in nodes]:
            nodes = self._elsewhere[room]
            del nodes[node]
            if not nodes:
                del self._elsewhere[room]

    def repeat(self, rooms: Iterable[RoomKey] | None = None) -> None:
        """Say again who is here: in a few rooms a call, or in *rooms*. A lost hint is mended by that."""
        if rooms is None:
            if not self._to_repeat:
                self._to_repeat = list(self._here)
            rooms = [self._to_repeat.pop() for _ in range(min(_ROOMS_A_BEAT, len(self._to_repeat)))]
        for room in rooms:
            users = list(self._here.get(room, ()))
            for at in range(0, max(len(users), 1), _USERS_A_MESSAGE):
                self._say(Online(*room, came=users[at : at + _USERS_A_MESSAGE], whole=at == 0))

    def repeat_all(self) -> None:
        """Say again who is here in every room: somebody new listens."""
        self.repeat(list(self._here))
