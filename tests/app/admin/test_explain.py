"""The policy as a table: role, room and action, with the expected decision."""

from typing import get_args

import pytest

from chat_broker.chat.policy import Action, Facts, Role, decide
from chat_broker_server.chat import roles
from chat_broker_server.chat.room_settings import RoomSettings

STRANGER = Facts()
ROLES = get_args(Role)
# action: (stranger to an open room, to a private one), then the roles that may
MEMBERS = {"owner", "moderator", "member"}
ALL = MEMBERS | {"guest"}
MODERATORS = {"owner", "moderator"}
TABLE = {
    "join": ((True, False), ALL),
    "leave": ((False, False), ALL),
    "read": ((False, False), ALL),
    "search": ((False, False), ALL),
    "report": ((False, False), ALL),
    "edit_message": ((False, False), ALL),
    "delete_message": ((False, False), ALL),
    "post": ((False, False), MEMBERS),
    "react": ((False, False), MEMBERS),
    "signal": ((False, False), MEMBERS),
    "upload": ((False, False), MEMBERS),
    "thread": ((False, False), MEMBERS),
    "pin": ((False, False), MODERATORS),
    "invite": ((False, False), MODERATORS),
    "add_member": ((False, False), MODERATORS),
    "remove_member": ((False, False), MODERATORS),
    "time_out": ((False, False), MODERATORS),
    "ban_member": ((False, False), MODERATORS),
    "update_room": ((False, False), {"owner"}),
    "set_role": ((False, False), {"owner"}),
    "delete_room": ((False, False), {"owner"}),
}


def test_the_table_names_every_action():
    assert set(TABLE) == {action.value for action in Action}


@pytest.mark.parametrize("action", Action)
def test_who_may_do_what(action):
    strangers, roles = TABLE[action.value]
    asked = (STRANGER, Facts(private=True))
    assert tuple(decide(action, facts).allowed for facts in asked) == strangers
    assert {role for role in ROLES if decide(action, Facts(role=role)).allowed} == roles


@pytest.mark.parametrize(
    "action", [each for each in Action if each not in {Action.JOIN, Action.LEAVE}]
)
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"read_only": True},
        {"invites": "members"},
        {"reactions": False, "threads": False, "attachments": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("direct", [False, True])
def test_the_broker_says_what_the_chat_api_does(action, role, settings, direct):
    """Two programs, one table: whatever the role, the settings and the kind of the room."""
    facts = Facts(role=role, settings=settings, direct=direct)
    expected = roles.may(role, action.value, RoomSettings(**settings), direct=direct)
    assert decide(action, facts).allowed == expected


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("other", ROLES)
def test_ranks_are_the_chat_apis(role, other):
    facts = Facts(role=role, other=other, own=False)
    for action in (Action.REMOVE_MEMBER, Action.TIME_OUT, Action.BAN_MEMBER):
        expected = roles.may(role, action.value) and roles.outranks(role, other)
        assert decide(action, facts).allowed == expected
    expected = roles.may_delete(role, own=False, author_role=other)
    assert decide(Action.DELETE_MESSAGE, facts).allowed == expected


@pytest.mark.parametrize(
    ("role", "settings", "action", "refusal"),
    [
        ("guest", {}, "post", "read_only"),
        ("guest", {}, "react", "read_only"),
        ("member", {"read_only": True}, "post", "read_only"),
        ("owner", {"reactions": False}, "react", "read_only"),
        ("member", {}, "pin", "owner_only"),
        ("moderator", {}, "set_role", "owner_only"),
    ],
)
def test_a_refusal_has_the_code_of_the_chat_api(role, settings, action, refusal):
    assert decide(Action(action), Facts(role=role, settings=settings)).refusal == refusal


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("bad", [{"banned": True}, {"suspended": True}], ids=str)
def test_a_banned_or_suspended_owner_may_do_nothing(action, bad):
    decision = decide(action, Facts(role="owner", own=True, **bad))
    assert not decision.allowed
    assert decision.refusal == "user_suspended"


@pytest.mark.parametrize("action", Action)
def test_a_stranger_is_refused_as_if_the_room_did_not_exist(action):
    """A stranger to a private room gets the error code of a missing room."""
    missing = decide(action, Facts(room_exists=False))
    assert not missing.allowed
    assert decide(action, Facts(private=True)).refusal == missing.refusal == "room_not_found"


@pytest.mark.parametrize(
    ("action", "role", "own", "allowed"),
    [
        ("edit_message", "member", True, True),
        ("edit_message", "member", False, False),
        ("edit_message", "owner", False, False),
        ("delete_message", "member", True, True),
        ("delete_message", "member", False, False),
        ("delete_message", "owner", False, True),
        ("delete_message", "moderator", False, True),
        ("delete_message", "guest", True, True),
        ("remove_member", "member", True, True),
        ("remove_member", "member", False, False),
        ("remove_member", "owner", False, True),
    ],
)
def test_what_is_ones_own(action, role, own, allowed):
    """Owners may delete others' messages, but not edit them. Every member may leave."""
    assert decide(Action(action), Facts(role=role, own=own)).allowed is allowed
