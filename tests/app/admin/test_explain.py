"""The policy as a table: role, room and action, with the expected decision."""

import pytest

from chat_broker.chat.policy import Action, Facts, decide

STRANGER = Facts()
MEMBER = Facts(role="member")
OWNER = Facts(role="owner")
# action: (stranger to an open room, stranger to a private one, member, owner)
TABLE = {
    "join": (True, False, True, True),
    "leave": (False, False, True, True),
    "read": (False, False, True, True),
    "post": (False, False, True, True),
    "edit_message": (False, False, True, True),
    "delete_message": (False, False, True, True),
    "update_room": (False, False, False, True),
    "delete_room": (False, False, False, True),
    "add_member": (False, False, False, True),
    "remove_member": (False, False, False, True),
}


def test_the_table_names_every_action():
    assert set(TABLE) == {action.value for action in Action}


@pytest.mark.parametrize("action", Action)
def test_who_may_do_what(action):
    asked = (STRANGER, Facts(private=True), MEMBER, OWNER)
    assert tuple(decide(action, facts).allowed for facts in asked) == TABLE[action.value]


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
        ("remove_member", "member", True, True),
        ("remove_member", "member", False, False),
        ("remove_member", "owner", False, True),
    ],
)
def test_what_is_ones_own(action, role, own, allowed):
    """Owners may delete others' messages, but not edit them. Every member may leave."""
    assert decide(Action(action), Facts(role=role, own=own)).allowed is allowed
