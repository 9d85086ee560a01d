"""Part of client.messages: reactions to messages, and pinned messages."""

from chat_broker_sdk._fields import without_none
from chat_broker_sdk._models import CursorPage, Message, Reaction, ReactionsOf, Reactor
from chat_broker_sdk._urls import checked_id, checked_room, emoji_segment

from .api import Api

_REACTORS = CursorPage[Reactor]


class Reactions:
    """Calls about what users put to a message without writing one."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._routes = api.dialect.routes

    def _path(self, room_id: str) -> tuple[str, ...]:
        return self._routes.rooms, checked_room(room_id), self._routes.messages

    def _message_path(self, room_id: str, message_id: str, *more: str) -> tuple[str, ...]:
        return *self._path(room_id), checked_id(message_id, "message_id"), *more

    # -- reactions ------------------------------------------------------------------------------

    def react(
        self, room_id: str, message_id: str, emoji: str, *, user_id: str | None = None
    ) -> tuple[Reaction, ...]:
        """React to a message as *user_id*, and return all its reactions. A second time changes nothing.

        *emoji*: one emoji, or `:name:`. *user_id* goes with the API key; with a token alone its user reacts. Raises
        ConflictError (`too_many_reactions`, `message_deleted`), AuthenticationError (`read_only`) for guests. Feature
        `reactions`.
        """
        return self._change_reaction("PUT", room_id, message_id, emoji, user_id)

    def unreact(
        self, room_id: str, message_id: str, emoji: str, *, user_id: str | None = None
    ) -> tuple[Reaction, ...]:
        """Take a reaction back, if there is one, and return what is left. Arguments as for `react`. Feature `reactions`."""
        return self._change_reaction("DELETE", room_id, message_id, emoji, user_id)

    def _change_reaction(
        self, method: str, room_id: str, message_id: str, emoji: str, user_id: str | None
    ) -> tuple[Reaction, ...]:
        self._api.require("reactions")
        path = self._message_path(room_id, message_id, self._routes.reactions, emoji_segment(emoji))
        if user_id is None:
            answer = self._api.request(method, path, ReactionsOf, auth="user")
        else:
            path = (*path, checked_id(user_id, "user_id"))
            answer = self._api.request(method, path, ReactionsOf)
        return answer.reactions

    def reactions(
        self,
        room_id: str,
        message_id: str,
        *,
        emoji: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        member_id: str | None = None,
    ) -> CursorPage[Reactor]:
        """One page of who reacted, with *emoji* alone or with any: by first use, of each the last one first.

        *cursor*: `next_cursor` of the page before. *member_id*: with the API key, of a message that this member sees. Feature
        `reactions`.
        """
        self._api.require("reactions")
        path = self._message_path(room_id, message_id, self._routes.reactions)
        query = {"emoji": emoji, "cursor": cursor, "limit": limit, "member_id": member_id}
        return self._api.request("GET", path, _REACTORS, auth="either", query=query)

    # -- pins -----------------------------------------------------------------------------------

    def pin(self, room_id: str, message_id: str, *, user_id: str | None = None) -> Message:
        """Pin a message as *user_id*, who must be allowed to; one that is pinned stays as it is. Feature `pins`.

        Without *user_id* the API key pins it in nobody's name, a token alone in that of its user. Raises ConflictError
        (`too_many_pins`, `message_deleted`), AuthenticationError (`owner_only`) for members.
        """
        return self._pin("PUT", room_id, message_id, user_id)

    def unpin(self, room_id: str, message_id: str, *, user_id: str | None = None) -> Message:
        """End the pin of a message, if there is one. Arguments as for `pin`. Feature `pins`."""
        return self._pin("DELETE", room_id, message_id, user_id)

    def _pin(self, method: str, room_id: str, message_id: str, user_id: str | None) -> Message:
        self._api.require("pins")
        return self._api.request(
            method,
            self._message_path(room_id, message_id, self._routes.pin),
            Message,
            auth="either",
            body=without_none(user_id=user_id) or None,
        )
