"""The state of the fake Chat API, and its rules."""

import json
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]

SMALL_ROOM = 100
SMALL_AGAIN = 80
"""Members: a room with more than the first is large, until it has no more than the second."""

_USERNAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Problem(Exception):  # noqa: N818 - a response, not a failure of the fake
    """An error response of the fake. *facts* are further fields of its body."""

    def __init__(self, status: int, code: str, *, field: str | None = None, **facts: Any) -> None:
        super().__init__(code)
        self.status, self.code, self.field, self.facts = status, code, field, facts


@dataclass(frozen=True, slots=True)
class Seen:
    """One received request. Header names are in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str] = field(repr=False)
    body: Any = None


class FakeStore:
    """The project's users, rooms, messages and tokens, with the contract's rules for them."""

    def __init__(self, project_id: str) -> None:
        self.project_id = project_id
        self.users: dict[str, Json] = {}
        self.rooms: dict[str, Json] = {}
        # Of each direct room: the users it was made for.
        self.direct: dict[str, set[str]] = {}
        self.members: dict[str, dict[str, Json]] = {}
        self.messages: dict[str, list[Json]] = {}
        self.tokens: dict[str, tuple[str, float, int]] = {}
        self.generations: dict[str, int] = {}
        self.skew = 0.0
        self.features: tuple[str, ...] = ()
        self.epoch = _id()
        # Of each room: (kind, object) → rev of its last change.
        self.changes: dict[str, dict[tuple[str, str], int]] = {}
        # Of each message: who reacted, in order. The pinned messages, newest pin last.
        self.reactions: dict[str, list[Json]] = {}
        self.pinned: list[str] = []
        # (room, user) → the member's own side; → number of the join, counted over all rooms.
        self.sides: dict[tuple[str, str], Json] = {}
        self.joined_as: dict[tuple[str, str], int] = {}
        self.joins = 0
        # What users have set; whom they block; how often that changed.
        self.settings: dict[str, Json] = {}
        self.blocks: dict[str, set[str]] = {}
        self.versions: dict[str, int] = {}
        # Tells the sockets that see a user their new name or picture.
        self.tell_user: Callable[[Json], None] = lambda _: None
        # Sends an event to the sockets in a room: event, room, payload.
        self.publish: Callable[[str, str, Json], None] = lambda *_: None
        # Why the member who leaves last does so.
        self.departure = "left"
        # Tells a member's own side of a room: room, user.
        self.tell_mine: Callable[[str, str], None] = lambda *_: None
        # When users closed their last connection.
        self.last_seen: dict[str, str] = {}
        # Tells the sockets in a room how far a member is: room, user.
        self.tell_receipt: Callable[[str, str], None] = lambda *_: None
        # Tells a user's sockets that their own side of all rooms has changed.
        self.tell_reload: Callable[[str], None] = lambda _: None
        # Ends a user's connections with a code, and returns how many there were.
        self.close_user: Callable[[str, str], int] = lambda *_: 0

    def now(self) -> float:
        """Epoch seconds of the fake's clock."""
        return time.time() + self.skew

    def timestamp(self, at: float | None = None) -> str:
        """*at* (epoch seconds; None: now) in RFC 3339."""
        when = datetime.fromtimestamp(self.now() if at is None else at, UTC)
        return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    # -- users ----------------------------------------------------------------------------------

    def create_user(self, body: Json) -> Json:
        """Create a user. 409 if the username or external id is taken."""
        if not _USERNAME.fullmatch(str(body.get("username", ""))):
            raise Problem(400, "bad_request", field="username")
        if not body.get("external_user_id"):
            raise Problem(400, "bad_request", field="external_user_id")
        if any(
            user["external_user_id"] == body["external_user_id"] for user in self.users.values()
        ):
            raise Problem(409, "external_user_id_taken")
        self.refuse_taken_name(body["username"])
        user = {
            "id": _id(),
            "project_id": self.project_id,
            "external_user_id": body["external_user_id"],
            "username": body["username"],
            "display_name": body.get("display_name"),
            "email": body.get("email"),
            "avatar_url": body.get("avatar_url"),
            "status": "active",
            "metadata": body.get("metadata") or {},
            "created_at": self.timestamp(),
            "updated_at": self.timestamp(),
        }
        self.users[user["id"]] = user
        return user

    def refuse_taken_name(self, username: str, excluded: str | None = None) -> None:
        """409 if a user other than *excluded* has the username, in any case."""
        if any(
            each["username"].lower() == username.lower()
            for each in self.users.values()
            if each["id"] != excluded
        ):
            raise Problem(409, "username_taken")

    def user(self, user_id: str) -> Json:
        """The user. 404 if there is none."""
        return _get_or_404(self.users, user_id)

    def mint(self, user_id: str, seconds: int) -> Json:
        """Create an opaque token for the user."""
        user = self.user(user_id)
        if user["status"] != "active":
            raise Problem(403, "user_suspended")
        token = f"fake-{uuid.uuid4().hex}"
        expires = self.now() + seconds
        self.tokens[token] = user_id, expires, self.generations.get(user_id, 0)
        return {
            "token": token,
            "token_type": "Bearer",
            "expires_in": seconds,
            "expires_at": self.timestamp(expires),
            "user": user,
        }

    def bearer(self, token: str) -> tuple[str, float]:
        """The token's user id and expiry (epoch seconds). 401 if the token is not valid."""
        user_id, expires, generation = self.tokens.get(token, ("", 0.0, 0))
        if not user_id:
            raise Problem(401, "token_invalid")
        if generation != self.generations.get(user_id, 0):
            raise Problem(401, "token_revoked")
        if self.now() >= expires:
            raise Problem(401, "token_expired")
        if user_id not in self.users:
            raise Problem(401, "user_deleted")
        if self.users[user_id]["status"] != "active":
            raise Problem(403, "user_suspended")
        return user_id, expires

    # -- rooms ----------------------------------------------------------------------------------

    def create_room(self, body: Json) -> Json:
        """Create a room with its creator as owner."""
        if not body.get("name") or body.get("created_by") not in self.users:
            raise Problem(400, "bad_request")
        room = {
            "id": _id(),
            "project_id": self.project_id,
            "name": body["name"],
            "description": body.get("description"),
            "private": bool(body.get("private", False)),
            "created_by": body["created_by"],
            "member_count": 0,
            "last_seq": 0,
            "last_message_at": None,
            "metadata": body.get("metadata") or {},
            "created_at": self.timestamp(),
            "updated_at": self.timestamp(),
            "kind": "room",
        }
        self.rooms[room["id"]] = room
        self.members[room["id"]] = {}
        self.messages[room["id"]] = []
        self.changes[room["id"]] = {}
        self.join(room["id"], body["created_by"], role="owner")
        for user_id in body.get("member_ids", ()):
            self.join(room["id"], user_id)
        # A room begins with no change.
        self.changes[room["id"]].clear()
        room.pop("rev", None)
        for member in self.members[room["id"]].values():
            member.pop("rev", None)
        return room

    def change(self, room_id: str, kind: str, thing_id: str, thing: Json | None) -> int:
        """Count a change of *thing* (None: it is gone) in the room, and return its `rev`."""
        rev: int = self.rooms[room_id].get("rev", 0) + 1
        self.rooms[room_id]["rev"] = self.changes[room_id][kind, thing_id] = rev
        if thing is not None:
            thing["rev"] = rev
        return rev

    def rooms_of(self, user_id: str) -> list[Json]:
        """The rooms that the user is a member of."""
        return [room for room in self.rooms.values() if user_id in self.members[room["id"]]]

    def side(self, room_id: str, user_id: str) -> Json:
        """The member's own side of the room. 404 if the user is not a member."""
        _get_or_404(self.members[room_id], user_id)
        return self.sides[room_id, user_id]

    def unread(self, room_id: str, user_id: str, *, naming: str | None = None) -> int:
        """How many messages of others the member has not read; with *naming*, only those that name this user.

        Not counted: deleted, silent and system messages, and those of the blocked.
        """
        ignored = {user_id, *self.blocks.get(user_id, ())}
        read = self.members[room_id][user_id]["last_read_seq"]
        start = max(read, self.side(room_id, user_id)["from_seq"] - 1)
        return sum(
            each["seq"] > start
            and each["user_id"] not in ignored
            and each["deleted_at"] is None
            and "silent" not in each
            and "type" not in each
            and (naming is None or "mention_room" in each or naming in each.get("mentions", ()))
            for each in self.messages[room_id]
        )

    def room(self, room_id: str, caller: str | None = None) -> Json:
        """The room. 404 if there is none, or *caller* is not a member."""
        room = _get_or_404(self.rooms, room_id)
        if caller is not None and caller not in self.members[room_id]:
            raise Problem(404, "not_found")
        return room

    def join(self, room_id: str, user_id: str, role: str | None = None) -> Json:
        """The user's membership, created if there is none."""
        room, user = _get_or_404(self.rooms, room_id), self.user(user_id)
        members = self.members[room_id]
        if user_id not in members:
            if not members and room["kind"] == "room":
                role = "owner"
            members[user_id] = {
                "room_id": room_id,
                "user_id": user_id,
                "username": user["username"],
                "display_name": user["display_name"],
                "role": role or "member",
                "joined_at": self.timestamp(),
                "last_read_seq": room["last_seq"],
            }
            self.sides[room_id, user_id] = _new_side()
            if room.get("settings", {}).get("history") == "joined":
                self.sides[room_id, user_id]["from_seq"] = room["last_seq"] + 1
            self.joins += 1
            self.joined_as[room_id, user_id] = self.joins
            self._count_members(room)
            rev = self.change(room_id, "member", user_id, members[user_id])
            joined = {**_member_event(members[user_id]), "rev": rev}
            if role not in {None, "member"}:
                joined["role"] = role
            self.publish("user_joined", room_id, joined)
        elif role and role != members[user_id]["role"]:
            members[user_id]["role"] = role
            self.change(room_id, "member", user_id, members[user_id])
            self.publish("member_updated", room_id, members[user_id])
        return members[user_id]

    def leave(self, room_id: str, user_id: str, reason: str = "left") -> None:
        """End the user's membership, if there is one. *reason*: `left` or `removed`."""
        self.departure = reason
        room = _get_or_404(self.rooms, room_id)
        member = self.members[room_id].pop(user_id, None)
        if member is not None:
            if "members" in room:
                room["members"] = [each for each in room["members"] if each["id"] != user_id]
            self._count_members(room)
            rev = self.change(room_id, "member", user_id, None)
            self.publish("user_left", room_id, {**_member_event(member), "rev": rev})
            self._keep_owner(room_id)

    def _keep_owner(self, room_id: str) -> None:
        """Make the longest-standing of the highest role the owner, if there is none."""
        order = {"owner": 0, "moderator": 1, "member": 2, "guest": 3}
        # Members are in the order in which they joined.
        heir = min(
            self.members[room_id].values(), key=lambda each: order[each["role"]], default=None
        )
        of_its_kind = self.rooms[room_id]["kind"] == "room"
        if of_its_kind and heir is not None and heir["role"] != "owner":
            self.join(room_id, heir["user_id"], "owner")

    def _count_members(self, room: Json) -> None:
        count = room["member_count"] = len(self.members[room["id"]])
        # A room that has been large is small again when it is clearly so.
        room["small"] = count <= (SMALL_ROOM if room.get("small", True) else SMALL_AGAIN)

    def blocked(self, user_id: str, other_id: str) -> bool:
        """Whether one of the two blocks the other."""
        return other_id in self.blocks.get(user_id, ()) or user_id in self.blocks.get(other_id, ())

    def mark_read(self, room_id: str, user_id: str, seq: int) -> Json:
        """Move the read mark up to *seq*, never back."""
        room, member = _get_or_404(self.rooms, room_id), _get_or_404(self.members[room_id], user_id)
        side = self.side(room_id, user_id)
        before = member["last_read_seq"], side["delivered_seq"], side["marked_unread"]
        member["last_read_seq"] = max(member["last_read_seq"], min(seq, room["last_seq"]))
        side["delivered_seq"] = max(side["delivered_seq"], member["last_read_seq"])
        side["marked_unread"] = False
        if before != (member["last_read_seq"], side["delivered_seq"], False):
            side["version"] += 1
            self.tell_mine(room_id, user_id)
            self.tell_receipt(room_id, user_id)
        return {
            "last_read_seq": member["last_read_seq"],
            "unread": self.unread(room_id, user_id),
        }

    # -- messages -------------------------------------------------------------------------------

    def post(self, room_id: str, user_id: str, body: Json, more: Json | None = None) -> Json:
        """Create a message with the fields *more*. A repeated client_msg_id returns the first one. 403 for who only reads."""
        room = _get_or_404(self.rooms, room_id)
        if user_id not in self.members[room_id]:
            raise Problem(403, "not_a_member")
        content = body.get("content")
        if not isinstance(content, str) or not 1 <= len(content) <= 8000:
            raise Problem(400, "bad_request")
        for message in self.messages[room_id]:
            if body.get("client_msg_id") and message["client_msg_id"] == body["client_msg_id"]:
                return message
        if len(self.direct.get(room_id, ())) > 1 and room["member_count"] == 1:
            raise Problem(409, "nobody_there")
        if len(self.direct.get(room_id, ())) == 2 and any(
            self.blocked(user_id, other_id) for other_id in self.direct[room_id]
        ):
            raise Problem(403, "blocked")
        role, settings = self.members[room_id][user_id]["role"], room.get("settings", {})
        if role == "guest" or (role == "member" and settings.get("read_only")):
            raise Problem(403, "read_only")
        user = self.user(user_id)
        room["last_seq"] += 1
        room["last_message_at"] = self.timestamp()
        message = {
            "id": _id(),
            "room_id": room_id,
            "seq": room["last_seq"],
            "user_id": user_id,
            "username": user["username"],
            "display_name": user["display_name"],
            "content": content,
            "client_msg_id": body.get("client_msg_id"),
            "metadata": body.get("metadata") or {},
            "created_at": self.timestamp(),
            "edited_at": None,
            "deleted_at": None,
            **({"avatar_url": user["avatar_url"]} if user["avatar_url"] else {}),
            **(more or {}),
        }
        self.messages[room_id].append(message)
        if self.features:
            room["message_count"] = room.get("message_count", 0) + 1
        self.publish("message", room_id, message)
        return message

    def message(self, room_id: str, message_id: str) -> Json:
        """The message. 404 if there is none."""
        _get_or_404(self.rooms, room_id)
        return _get_or_404({each["id"]: each for each in self.messages[room_id]}, message_id)


def _member_event(member: Json) -> Json:
    return {name: member[name] for name in ("room_id", "user_id", "username", "display_name")}


def _new_side() -> Json:
    return {
        "delivered_seq": 0,
        "from_seq": 1,
        "notify": None,
        "muted_until": None,
        "archived": "no",
        "archived_seq": 0,
        "pinned_at": None,
        "marked_unread": False,
        "version": 0,
    }


def number(request: Seen, name: str, default: int) -> int:
    """The query's whole number *name*. 400 if it is none."""
    text = request.query.get(name, str(default))
    if not text.isdigit():
        raise Problem(400, "bad_request")
    return int(text)


def _id() -> str:
    return uuid.uuid4().hex


def _get_or_404(things: dict[str, Json], thing_id: str) -> Json:
    if thing_id not in things:
        raise Problem(404, "not_found")
    return things[thing_id]


def encoded(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()
