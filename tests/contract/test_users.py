"""Users over REST: create, find, change, delete."""

import uuid

import pytest

from tests.contract.servers import ChatApi, made, of_user, refused

USERS = "/api/v1/projects/{pid}/users"
FIELDS = {
    "id",
    "project_id",
    "external_user_id",
    "username",
    "display_name",
    "email",
    "avatar_url",
    "status",
    "metadata",
    "created_at",
    "updated_at",
}


async def test_a_created_user_is_answered_whole_and_found_again(api: ChatApi) -> None:
    """What was sent comes back, with id, project, status and instants."""
    user = await api.user(
        "whole",
        display_name="Wanda Whole",
        email="wanda@example.com",
        avatar_url="https://example.com/w.png",
        metadata={"plan": "gold", "n": 1, "list": [True, None, 1.5]},
    )
    assert set(user) == FIELDS
    assert user["project_id"] == api.pid
    assert user["status"] == "active"
    assert user["display_name"] == "Wanda Whole"
    assert user["metadata"] == {"plan": "gold", "n": 1, "list": [True, None, 1.5]}
    assert user["created_at"].endswith("Z")
    found = await api.send("GET", of_user(user))
    assert found.status_code == 200
    assert found.json() == user


async def test_what_is_optional_may_be_left_out_or_null(api: ChatApi) -> None:
    """Absent and null are the same: nothing."""
    bare = await api.user("bare")
    nulls = await api.user("nulls", display_name=None, email=None, avatar_url=None, metadata=None)
    for user in (bare, nulls):
        assert (user["display_name"], user["email"], user["avatar_url"]) == (None, None, None)
        assert user["metadata"] == {}


async def test_username_and_external_id_belong_to_one_user(api: ChatApi) -> None:
    """A second user with the username or external id is a conflict with its own code."""
    user = await api.user("unique")
    same_name = {"username": user["username"], "external_user_id": "other-ext"}
    refused(await api.send("POST", USERS, json=same_name), 409, "username_taken")
    same_ext = {"username": "other-name", "external_user_id": user["external_user_id"]}
    refused(await api.send("POST", USERS, json=same_ext), 409, "external_user_id_taken")
    for query in ("external_user_id=other-ext", "username=other-name"):
        assert (await api.send("GET", f"{USERS}?{query}")).json()["total"] == 0


async def test_a_username_is_one_in_any_case_and_keeps_its_spelling(api: ChatApi) -> None:
    """`Alice` and `ALICE` look alike, so only one of them can exist."""
    name = f"Alice-{uuid.uuid4().hex[:8]}"
    first = {"username": name, "external_user_id": f"{name}|1"}
    alice = made(await api.send("POST", USERS, json=first))
    assert alice["username"] == name
    for spelling in (name.upper(), name.lower()):
        second = {"username": spelling, "external_user_id": f"{name}|2"}
        refused(await api.send("POST", USERS, json=second), 409, "username_taken")
        found = (await api.send("GET", USERS, params={"username": spelling})).json()
        assert ([user["id"] for user in found["items"]], found["total"]) == ([alice["id"]], 1)
    bob = await api.user("bob")
    taken = await api.send("PATCH", of_user(bob), json={"username": name.upper()})
    refused(taken, 409, "username_taken")
    own = await api.send("PATCH", of_user(alice), json={"username": name.upper()})
    assert (own.status_code, own.json()["username"]) == (200, name.upper())
    await api.send("DELETE", of_user(alice))
    now = await api.send("PATCH", of_user(bob), json={"username": name.lower()})
    assert now.status_code == 200, "free again"


@pytest.mark.parametrize(
    "spelling", ["", "al", "alice ", "alice!", "al%", "al_ce", "ALİCE", "al\u212a"]
)
async def test_a_username_is_found_whole(api: ChatApi, spelling: str) -> None:
    """Only the whole username matches: no part, no look-alike, no wildcard."""
    unique = uuid.uuid4().hex[:8]
    await api.user("x", username=f"alik{unique}")
    await api.user("x", username=f"alice{unique}")
    found = await api.send("GET", USERS, params={"username": f"{spelling}{unique}"})
    assert found.json()["items"] == []


async def test_a_user_can_be_found_by_either_name(api: ChatApi) -> None:
    """Filters find the whole name, and of usernames any case; q looks inside names, whatever their case."""
    user = await api.user("findme", display_name="Zaphod 100%_!")
    for query in (
        {"external_user_id": user["external_user_id"]},
        {"username": user["username"]},
        {"q": "ZAPHOD 100%_!"},
        {"q": user["external_user_id"].upper()},
    ):
        page = (await api.send("GET", USERS, params=query)).json()
        assert [item["id"] for item in page["items"]] == [user["id"]], query
        assert page["total"] == page["totalPages"] == 1
    nobody = (await api.send("GET", USERS, params={"q": "Zaphod 100__!"})).json()
    assert nobody["items"] == []


@pytest.mark.parametrize(
    ("name", "searched"),
    [
        ("Ärger", "ärger"),
        ("Straße", "STRASSE"),
        ("İstanbul", "istanbul"),
        ("ISPARTA", "ısparta"),
        ("Ὀδυσσεύς", "ΟΔΥΣΣΕΥΣ"),
        ("Ａｎｎａ", "anna"),
        ("Renée", "RENEE"),
        ("Фёдор", "фЁДОР"),
    ],
)
async def test_names_are_found_beyond_ascii_in_any_case(
    api: ChatApi, name: str, searched: str
) -> None:
    """Search ignores case, width and accents in names and external ids, on every database."""
    unique = uuid.uuid4().hex[:10]
    user = await api.user("folded", display_name=f"{name} {unique}")
    other = await api.user("folded", external_user_id=f"{name}|{unique}")
    renamed = await api.user("folded", display_name="somebody")
    await api.send("PATCH", of_user(renamed), json={"display_name": f"{name.upper()}_{unique}"})

    async def found(q: str) -> list[str]:
        page = (await api.send("GET", USERS, params={"q": q})).json()
        assert page["total"] == len(page["items"])
        return [item["id"] for item in page["items"]]

    for spelling in (searched, name, name.lower(), name.upper()):
        assert await found(f"{spelling} {unique}") == [user["id"]]
        assert await found(f"{spelling}|{unique.upper()}") == [other["id"]]
        assert await found(f"{spelling}_{unique}") == [renamed["id"]], (
            "a wildcard stands for itself"
        )
    await api.send("PATCH", of_user(renamed), json={"display_name": "somebody"})
    assert await found(f"{searched}_{unique}") == []


async def test_pages_cover_every_user_once(api: ChatApi) -> None:
    """The pages hold every user once, in one order, and name the last page."""
    for _ in range(5):
        await api.user("page")
    first = (await api.send("GET", f"{USERS}?limit=2")).json()
    assert set(first) == {"items", "page", "limit", "total", "totalPages"}
    assert (first["page"], first["limit"]) == (1, 2)
    assert first["totalPages"] == -(-first["total"] // 2)
    seen = []
    for number in range(1, first["totalPages"] + 1):
        page = (await api.send("GET", f"{USERS}?limit=2&page={number}")).json()
        seen += [item["id"] for item in page["items"]]
    assert len(seen) == len(set(seen)) == first["total"]
    beyond = (await api.send("GET", f"{USERS}?limit=2&page={first['totalPages'] + 1}")).json()
    assert beyond["items"] == []
    assert beyond["total"] == first["total"]


async def test_changes_touch_only_what_is_named(api: ChatApi) -> None:
    """PATCH changes the named fields only; null clears optional ones."""
    user = await api.user("patch", display_name="Before", email="b@example.com", metadata={"a": 1})
    changed = await api.send("PATCH", of_user(user), json={"display_name": "After"})
    assert changed.status_code == 200
    after = changed.json()
    assert after["display_name"] == "After"
    assert after["updated_at"] >= user["updated_at"]
    untouched = {"email", "metadata", "username", "external_user_id", "created_at", "status"}
    assert {name: after[name] for name in untouched} == {name: user[name] for name in untouched}
    emptied = await api.send("PATCH", of_user(user), json={"email": None, "metadata": {"b": 2}})
    assert emptied.json()["email"] is None
    assert emptied.json()["metadata"] == {"b": 2}
    assert (await api.send("GET", of_user(user))).json() == emptied.json()


async def test_a_username_can_be_changed_to_a_free_one_only(api: ChatApi) -> None:
    """A clash is a conflict, and changes nothing."""
    one, two = await api.user("one"), await api.user("two")
    clash = await api.send("PATCH", of_user(two), json={"username": one["username"]})
    refused(clash, 409, "username_taken")
    assert (await api.send("GET", of_user(two))).json() == two
    fresh = f"{two['username']}-new"
    assert (await api.send("PATCH", of_user(two), json={"username": fresh})).status_code == 200


async def test_suspended_users_are_listed_by_status(api: ChatApi) -> None:
    """Active and suspended users form two lists whose totals add up."""
    user = await api.user("suspend")
    suspended = await api.send("PATCH", of_user(user), json={"status": "suspended"})
    assert suspended.json()["status"] == "suspended"
    everybody = (await api.send("GET", f"{USERS}?limit=1")).json()["total"]
    bad = (await api.send("GET", f"{USERS}?status=suspended&limit=200")).json()
    good = (await api.send("GET", f"{USERS}?status=active&limit=1")).json()
    assert user["id"] in [item["id"] for item in bad["items"]]
    assert bad["total"] + good["total"] == everybody
    back = await api.send("PATCH", of_user(user), json={"status": "active"})
    assert back.json()["status"] == "active"


async def test_a_deleted_user_is_gone_and_leaves_their_names_free(api: ChatApi) -> None:
    """A deleted user is 404; username and external id are free for another user."""
    user = await api.user("gone")
    gone = await api.send("DELETE", of_user(user))
    assert gone.status_code == 204
    assert gone.content == b""
    for method, path in (
        ("GET", of_user(user)),
        ("DELETE", of_user(user)),
        ("POST", f"{of_user(user)}/token"),
        ("POST", f"{of_user(user)}/revoke"),
    ):
        refused(await api.send(method, path), 404, "user_not_found")
    refused(await api.send("PATCH", of_user(user), json={}), 404, "user_not_found")
    names = {"username": user["username"], "external_user_id": user["external_user_id"]}
    again = made(await api.send("POST", USERS, json=names))
    assert again["id"] != user["id"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", ""),
        ("username", "a" * 65),
        ("username", "with space"),
        ("username", "naïve"),
        ("username", "line\n"),
        ("username", 5),
        ("username", None),
        ("external_user_id", ""),
        ("external_user_id", "x" * 256),
        ("external_user_id", "a\nb"),
        ("external_user_id", None),
        ("display_name", ""),
        ("display_name", "x" * 129),
        ("display_name", "two\nlines"),
        ("email", "nobody"),
        ("avatar_url", "javascript:alert(1)"),
        ("avatar_url", "https://"),
        ("metadata", []),
        ("metadata", "text"),
        ("metadata", {"x": "y" * 4096}),
        ("status", "active"),
        ("id", "mine"),
        ("project_id", "other"),
        ("nonsense", 1),
    ],
)
async def test_a_bad_field_is_named_and_nothing_is_made(
    api: ChatApi, field: str, value: object
) -> None:
    """400 with the field in `errors`; limits and unknown fields alike."""
    body = {"username": "bad-field", "external_user_id": "bad-field", field: value}
    problem = refused(await api.send("POST", USERS, json=body), 400, "invalid_input")
    assert [error["field"] for error in problem["errors"]] == [field]
    found = await api.send("GET", f"{USERS}?username=bad-field")
    assert found.json()["total"] == 0


async def test_longest_values_are_taken_and_returned_as_sent(api: ChatApi) -> None:
    """Values of exactly the limit are accepted, counted in characters."""
    user = await api.user("long")
    longest = {
        "username": "u" * 64,
        "display_name": "é" * 128,
        "metadata": {"x": "y" * (4096 - 8)},
    }
    answer = await api.send("PATCH", of_user(user), json=longest)
    assert answer.status_code == 200, answer.text
    assert {name: answer.json()[name] for name in longest} == longest
    await api.send("DELETE", of_user(user))


async def test_every_wrong_field_is_said_at_once(api: ChatApi) -> None:
    """One response names every wrong field."""
    answer = await api.send("POST", USERS, json={"username": "", "bogus": 1})
    problem = refused(answer, 400)
    assert {error["field"] for error in problem["errors"]} == {
        "username",
        "external_user_id",
        "bogus",
    }


async def test_a_patch_cannot_move_a_user_to_another_identity(api: ChatApi) -> None:
    """The external id ties an account to a person: it is never reassigned."""
    user = await api.user("fixed")
    answer = await api.send("PATCH", of_user(user), json={"external_user_id": "stolen"})
    refused(answer, 400, "invalid_input")
