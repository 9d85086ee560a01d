"""client.sync: what a client lacks of all rooms of a user, in one call."""

from collections.abc import Mapping
from typing import Any

from chat_broker_sdk._emulation import sync_plan
from chat_broker_sdk._errors import ValidationError
from chat_broker_sdk._models import Delta, Message, Room, SyncResult
from chat_broker_sdk._urls import checked_id

from .api import Api
from .messages import Messages
from .rooms import Rooms


def sync_rooms(api: Api, user_id: str | None, body: Mapping[str, Any]) -> SyncResult:
    """The server's answer to *body*, or one worked out by reading where the server does not offer `sync`."""
    if user_id is None and api.token is None:
        raise ValidationError("user_id is needed with the API key", code="bad_request")
    if not api.supports("sync"):
        return _emulated(api, user_id, body)
    routes = api.dialect.routes
    if user_id is None:
        path = f"{api.dialect.prefix}/{routes.sync}"
        return api.request("POST", path, SyncResult, auth="user", body=body)
    of_user = routes.users, checked_id(user_id, "user_id"), routes.sync
    return api.request("POST", of_user, SyncResult, body=body)


def _emulated(api: Api, user_id: str | None, body: Mapping[str, Any]) -> SyncResult:
    if user_id is None:
        api = api.copy(key=None)  # of a client with both: the rooms of the token's user
    rooms = [room for room in Rooms(api).iterate(member_id=user_id)]
    plan = sync_plan(
        rooms,
        have=body["have"],
        epoch=body.get("epoch"),
        messages=body.get("messages", 1),
        limit=body.get("limit", 50),
        cursor=body.get("cursor"),
    )
    deltas: list[Delta] = []
    for room in plan.rooms:
        after = plan.after(room)
        missed = [] if after is None else _newest(api, room, after)
        deltas.append(plan.delta(room, missed))
    return plan.result(deltas)


def _newest(api: Api, room: Room, after: int) -> list[Message]:
    """The messages after *after* up to the room's `last_seq`; later ones belong to the next sync."""
    last = room.last_seq or 0
    page = Messages(api).list(room.id, after=after, limit=last - after)
    return [message for message in page.items if after < (message.seq or 0) <= last]
