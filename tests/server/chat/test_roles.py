"""What each role may do: the contract's table, cell by cell."""

from itertools import product
from typing import get_args

import pytest

from chat_broker_server.chat.roles import ROLES, Action, may, may_delete, outranks, rank, require
from chat_broker_server.chat.room_settings import RoomSettings
from chat_broker_server.errors import Forbidden

EVERYBODY = {"owner", "moderator", "member", "guest"}
MODERATORS = {"owner", "moderator"}
MEMBERS = MODERATORS | {"member"}
MAY = {
    "read": EVERYBODY,
    "mark": EVERYBODY,
    "report": EVERYBODY,
    "search": EVERYBODY,
    "edit_message": EVERYBODY,
    "delete_message": EVERYBODY,
    "react": MEMBERS,
    "post": MEMBERS,
    "signal": MEMBERS,
    "upload": MEMBERS,
    "thread": MEMBERS,
    "pin": MODERATORS,
    "invite": MODERATORS,
    "time_out": MODERATORS,
    "ban_member": MODERATORS,
    "add_member": MODERATORS,
    "remove_member": MODERATORS,
    "update_room": {"owner"},
    "set_role": {"owner"},
    "delete_room": {"owner"},
}
POSTING = ("post", "signal", "upload", "thread")


def test_every_action_has_its_row() -> None:
    assert set(MAY) == set(get_args(Action))


@pytest.mark.parametrize("action", get_args(Action))
def test_who_may(action: Action) -> None:
    assert {role for role in ROLES if may(role, action)} == MAY[action]
    assert not may("nobody", action) or MAY[action] == EVERYBODY


@pytest.mark.parametrize("action", get_args(Action))
def test_where_members_only_read_only_posting_is_taken_from_them(action: Action) -> None:
    allowed = {role for role in ROLES if may(role, action, RoomSettings(read_only=True))}
    assert allowed == (MODERATORS if action in POSTING else MAY[action])


def test_settings_that_give_and_take() -> None:
    assert may("member", "invite", RoomSettings(invites="members"))
    assert not may("guest", "invite", RoomSettings(invites="members"))
    assert not may("owner", "react", RoomSettings(reactions=False))
    assert not may("owner", "thread", RoomSettings(threads=False))
    assert not may("owner", "upload", RoomSettings(attachments=False))
    assert may("member", "pin", direct=True)
    assert not may("guest", "pin", direct=True)


def test_nobody_acts_on_their_own_rank_or_above_but_owners() -> None:
    for role, other in product(ROLES, ROLES):
        assert outranks(role, other) == (role == "owner" or rank(role) > rank(other))
    assert not outranks("moderator", "moderator")
    assert outranks("moderator", "member")
    assert outranks("owner", "owner")


def test_moderators_delete_all_messages_but_an_owners() -> None:
    for author_role in ("moderator", "member", "guest", None):
        assert may_delete("moderator", own=False, author_role=author_role)
    assert not may_delete("moderator", own=False, author_role="owner")
    assert may_delete("owner", own=False, author_role="owner")
    assert may_delete("guest", own=True, author_role="guest")
    assert not may_delete("member", own=False, author_role="guest")


@pytest.mark.parametrize(
    ("role", "action", "code"),
    [
        ("guest", "post", "read_only"),
        ("guest", "react", "read_only"),
        ("member", "pin", "owner_only"),
        ("moderator", "set_role", "owner_only"),
    ],
)
def test_a_refusal_has_its_code(role: str, action: Action, code: str) -> None:
    with pytest.raises(Forbidden) as refused:
        require(role, action)
    assert refused.value.code == code
    require("owner", action)
