"""Who is online, for the sockets that watch, for REST, and for the database."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from chat_broker_server.chat.models import Presence
from chat_broker_server.chat.service import Chat
from chat_broker_server.cluster.nodes import OnlineChange, UsersOnline
from chat_broker_server.errors import ChatError
from chat_broker_server.realtime.connections import Connections, UserKey
from chat_broker_server.realtime.context import Context
from chat_broker_server.realtime.online import OnlineUsers
from chat_broker_server.realtime.presence_events import PresenceEvents


class UserPresence:
    """The users of all nodes, those whom sockets of this node watch, and when users of this node were last seen."""

    def __init__(
        self,
        chat: Chat,
        context: Context,
        broadcast: Callable[[OnlineChange | UsersOnline], None],
    ) -> None:
        self._chat = chat
        self._context = context
        self.online = OnlineUsers(context.clock, broadcast, self._tell, self._write_soon)
        self.events = PresenceEvents(chat.seen, self.online.is_online, context.clock, context.spawn)

    def listen(self, connections: Connections) -> None:
        """Note the users of this node who come and go."""
        connections.came, connections.went = self.online.came, self.online.went

    async def of(self, pid: str, user_ids: Sequence[str], reader_id: str | None) -> list[Presence]:
        """Whether users are online. With *reader_id*, of themselves and of users who are in a room with them."""
        return self.events.states(pid, await self._chat.seen(pid, user_ids, reader_id))

    async def close(self) -> None:
        """Write when the users of this node were last seen, as it ends."""
        with suppress(ChatError):
            await self._write(self.online.leave_now())

    def _tell(self, user: UserKey, online: bool, seen_at: str | None) -> None:
        self.events.note(user, online, seen_at)

    def _write_soon(self, seen: dict[UserKey, str]) -> None:
        self._context.spawn(self._try_to_write(seen))

    async def _try_to_write(self, seen: dict[UserKey, str]) -> None:
        try:
            await self._write(seen)
        except ChatError:  # it is written again in some minutes
            self._context.log.warning("presence.not_written")

    async def _write(self, seen: dict[UserKey, str]) -> None:
        by_project: dict[str, dict[str, str]] = {}
        for (pid, user_id), seen_at in seen.items():
            by_project.setdefault(pid, {})[user_id] = seen_at
        for pid, times in by_project.items():
            await self._chat.note_seen(pid, times)
