"""Settings of a room: one changes without the others, and each holds on every route."""

import asyncio
from typing import Any

import pytest

from tests.contract.servers import ChatApi, in_room, of_user, refused

ALL = {
    "read_only": True,
    "slow_mode": 3600,
    "history": "joined",
    "invites": "members",
    "system_messages": True,
    "edit_window": 60,
    "retention_days": 30,
    "reactions": False,
    "threads": False,
    "attachments": False,
}


async def patch(api: ChatApi, room: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """The room, after its settings were changed."""
    answer = await api.send("PATCH", in_room(room), json={"settings": settings})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_each_setting_changes_alone_and_shows_while_it_is_set(api: ChatApi) -> None:
    room = await api.room(await api.user())
    assert "settings" not in room
    expected: dict[str, Any] = {}
    for name, value in ALL.items():
        expected[name] = value
        assert (await patch(api, room, **{name: value}))["settings"] == expected
    assert (await api.send("GET", in_room(room))).json()["settings"] == ALL
    listed = (await api.send("GET", "/api/v1/projects/{pid}/rooms", params={"limit": 200})).json()
    assert [each["settings"] for each in listed["items"] if each["id"] == room["id"]] == [ALL]
    assert (await api.send("PATCH", in_room(room), json={"name": "n"})).json()["settings"] == ALL
    defaults = {
        **dict.fromkeys(("read_only", "system_messages"), False),
        **dict.fromkeys(("reactions", "threads", "attachments"), True),
        **dict.fromkeys(("slow_mode", "edit_window", "retention_days"), 0),
        "history": "all",
        "invites": "owners",
    }
    assert "settings" not in await patch(api, room, **defaults)


async def test_settings_of_two_at_once_are_both_kept(api: ChatApi) -> None:
    room = await api.room(await api.user())
    for _ in range(5):
        await asyncio.gather(patch(api, room, read_only=True), patch(api, room, slow_mode=5))
        settings = (await api.send("GET", in_room(room))).json()["settings"]
        assert settings == {"read_only": True, "slow_mode": 5}
        await patch(api, room, read_only=False, slow_mode=0)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"read_only": 1}, "read_only"),
        ({"read_only": None}, "read_only"),
        ({"slow_mode": 3601}, "slow_mode"),
        ({"slow_mode": -1}, "slow_mode"),
        ({"history": "none"}, "history"),
        ({"invites": "guests"}, "invites"),
        ({"edit_window": 1.5}, "edit_window"),
        ([], "object"),
    ],
)
async def test_a_setting_that_is_none_is_refused_and_nothing_changes(
    api: ChatApi, settings: Any, named: str
) -> None:
    room = await api.room(await api.user())
    body = {"name": "other", "settings": settings}
    problem = refused(await api.send("PATCH", in_room(room), json=body), 400, "invalid_input")
    assert problem["errors"][0]["field"] == "settings"
    assert named in problem["errors"][0]["message"]
    assert (await api.send("GET", in_room(room))).json() == room


async def test_where_members_only_read_owners_and_moderators_post(api: ChatApi) -> None:
    owner, moderator, member = [await api.user() for _ in range(3)]
    room = await api.room(owner, moderator, member)
    path = f"{in_room(room)}/members/{moderator['id']}"
    await api.send("PUT", path, json={"role": "moderator"})
    messages = f"{in_room(room)}/messages"
    said = await api.say(room, member, "before")
    await patch(api, room, read_only=True)
    token = await api.token(member)
    refused(await api.as_user(token, "POST", messages, json={"content": "x"}), 403, "read_only")
    by_key = {"content": "x", "user_id": member["id"]}
    refused(await api.send("POST", messages, json=by_key), 403, "read_only")
    edit = {"content": "y"}
    assert (await api.as_user(token, "PATCH", f"{messages}/{said['id']}", json=edit)).is_success
    for who in (owner, moderator):
        await api.say(room, who, "x")
    await patch(api, room, read_only=False)
    await api.say(room, member, "x")


async def test_after_the_edit_window_the_author_is_too_late_and_the_key_is_not(
    api: ChatApi,
) -> None:
    """The key that names the author acts as they do."""
    owner = await api.user()
    room = await api.room(owner)
    said = await api.say(room, owner, "x")
    path = f"{in_room(room)}/messages/{said['id']}"
    token = await api.token(owner)
    await patch(api, room, edit_window=60)
    assert (await api.as_user(token, "PATCH", path, json={"content": "y"})).is_success
    await patch(api, room, edit_window=1)
    await asyncio.sleep(1.1)
    refused(await api.as_user(token, "PATCH", path, json={"content": "z"}), 403, "too_late")
    refused(await api.as_user(token, "PATCH", path, json={"metadata": {}}), 403, "too_late")
    named = {"content": "z", "user_id": owner["id"]}
    refused(await api.send("PATCH", path, json=named), 403, "too_late")
    assert (await api.send("PATCH", path, json={"content": "z"})).is_success
    assert (await api.as_user(token, "DELETE", path)).status_code == 204


async def test_the_key_edits_as_the_user_whom_it_names(api: ChatApi) -> None:
    owner, member, stranger = [await api.user() for _ in range(3)]
    room = await api.room(owner, member)
    said = await api.say(room, member, "x")
    path = f"{in_room(room)}/messages/{said['id']}"

    async def edits(user: dict[str, Any]) -> Any:
        return await api.send("PATCH", path, json={"content": "y", "user_id": user["id"]})

    refused(await edits(owner), 403, "not_the_author")
    refused(await edits(stranger), 404, "room_not_found")
    assert (await edits(member)).json()["content"] == "y"


async def test_newcomers_of_a_room_with_history_from_joining_see_nothing_from_before(
    api: ChatApi,
) -> None:
    """On no route; who was there before sees all, and so does who comes after it is set back."""
    owner, early, late, third = [await api.user() for _ in range(4)]
    room = await api.room(owner, early)
    hidden = [await api.say(room, owner, f"hidden {n}") for n in range(3)]
    await patch(api, room, history="joined")
    joined = await api.send("POST", f"{in_room(room)}/join", json={"user_id": late["id"]})
    assert "from_seq" not in joined.json()
    shown = await api.say(room, owner, "shown")
    path, token = in_room(room), await api.token(late)

    async def sees(what: str, **query: Any) -> Any:
        return (await api.as_user(token, "GET", f"{path}/{what}", params=query)).json()

    for query in ({}, {"page": 1}, {"before": 100}, {"after": 0}, {"around": 1}):
        page = await sees("messages", **query)
        assert [each["id"] for each in page["items"]] == [shown["id"]], query
        assert page["total"] == 1
    ids = ",".join(each["id"] for each in (*hidden, shown))
    assert [each["id"] for each in (await sees("messages", ids=ids))["items"]] == [shown["id"]]
    assert (await sees(f"messages/{hidden[0]['id']}"))["code"] == "message_not_found"
    for method in ("PATCH", "DELETE"):
        body = {"content": "x"} if method == "PATCH" else None
        message = f"{path}/messages/{hidden[0]['id']}"
        refused(await api.as_user(token, method, message, json=body), 404, "message_not_found")
    await api.send("PATCH", f"{path}/messages/{hidden[1]['id']}", json={"content": "secret"})
    assert [each["kind"] for each in (await sees("changes", since_rev=0))["items"]] == [
        "room",
        "member",
    ]
    mine = await sees("mine")
    assert (mine["from_seq"], mine["unread"]) == (4, 1)
    own = await sees(f"members/{late['id']}")
    assert own["from_seq"] == 4
    assert "from_seq" not in await sees(f"members/{owner['id']}")
    sync = (await api.as_user(token, "POST", "/api/v1/sync", json={"messages": 20})).json()
    assert [each["id"] for each in sync["deltas"][0]["missed"]] == [shown["id"]]
    assert (await api.as_user(await api.token(early), "GET", f"{path}/messages")).json()[
        "total"
    ] == 4
    await patch(api, room, history="all")
    await api.send("POST", f"{path}/join", json={"user_id": third["id"]})
    assert (await api.as_user(await api.token(third), "GET", f"{path}/messages")).json()[
        "total"
    ] == 4
    assert (await sees("messages"))["total"] == 1, "it stays hidden"


async def test_the_key_may_leave_out_what_a_member_does_not_see(api: ChatApi) -> None:
    """`from_seq` on each route that reads messages, and in the membership as the key reads it."""
    owner, late = await api.user(), await api.user()
    room = await api.room(owner)
    said = [await api.say(room, owner, str(n)) for n in range(3)]
    await patch(api, room, history="joined")
    path = in_room(room)
    await api.send("PUT", f"{path}/members/{late['id']}")
    member = (await api.send("GET", f"{path}/members/{late['id']}")).json()
    assert member["from_seq"] == 4
    assert "from_seq" not in (await api.send("GET", f"{path}/members/{owner['id']}")).json()
    listed = (await api.send("GET", f"{path}/members")).json()["items"]
    assert not any("from_seq" in each for each in listed)

    async def read(what: str, **query: Any) -> Any:
        return await api.send("GET", f"{path}/{what}", params={"from_seq": 3, **query})

    ids = ",".join(each["id"] for each in said)
    for query in ({}, {"before": 100}, {"after": 0}, {"around": 1}, {"ids": ids}):
        page = (await read("messages", **query)).json()
        assert [each["id"] for each in page["items"]] == [said[2]["id"]], query
    refused(await read(f"messages/{said[0]['id']}"), 404, "message_not_found")
    assert (await read(f"messages/{said[2]['id']}")).is_success
    beyond = (await read("messages", from_seq=100)).json()
    assert (beyond["items"], beyond["total"]) == ([], 0)


async def test_system_messages_tell_what_members_do(api: ChatApi) -> None:
    """Once, in English, without a mark for anybody; and only where the room has them."""
    owner, other, third = [await api.user(display_name=name) for name in ("Ann", "Bob", "Cid")]
    room = await api.room(owner, other)
    path = in_room(room)
    await patch(api, room, system_messages=True)
    by = {"by": owner["id"]}
    await api.send("POST", f"{path}/join", json={"user_id": third["id"]})
    await api.send("PUT", f"{path}/members/{third['id']}", json={"role": "moderator", **by})
    await api.send("DELETE", f"{path}/members/{third['id']}", params=by)
    await api.send("PUT", f"{path}/members/{third['id']}", json=by)
    await api.send("PUT", f"{path}/members/{third['id']}", json=by)
    await api.send("DELETE", f"{path}/members/{third['id']}")
    await api.send("PATCH", path, json={"name": "Other", **by})
    await api.send("PATCH", path, json={"name": "Other"})
    await api.send("POST", f"{path}/leave", json={"user_id": owner["id"]})
    told = (await api.send("GET", f"{path}/messages", params={"after": 0})).json()["items"]
    one = {"user_id": third["id"]}
    assert [(each["event"], each["content"]) for each in told] == [
        ({"name": "member_joined", **one}, "Cid joined."),
        ({"name": "role_changed", **one, "role": "moderator", **by}, "Ann made Cid a moderator."),
        ({"name": "member_removed", **one, **by}, "Ann removed Cid."),
        ({"name": "member_joined", **one, **by}, "Ann added Cid."),
        ({"name": "member_removed", **one}, "Cid was removed."),
        ({"name": "room_renamed", "room_name": "Other", **by}, "Ann renamed the room to Other."),
        ({"name": "member_left", "user_id": owner["id"]}, "Ann left."),
        (
            {"name": "role_changed", "user_id": other["id"], "role": "owner"},
            "Bob is now an owner.",
        ),
    ]
    assert {each["type"] for each in told} == {"system"}
    mine = (await api.send("GET", f"{path}/members/{other['id']}/mine")).json()
    assert mine["unread"] == 0
    await patch(api, room, system_messages=False)
    await api.send("POST", f"{path}/join", json={"user_id": third["id"]})
    assert (await api.send("GET", f"{path}/messages")).json()["total"] == len(told)


async def test_a_user_who_is_deleted_leaves_and_many_who_are_added_join(api: ChatApi) -> None:
    owner, *others = [await api.user() for _ in range(4)]
    room = await api.room(owner)
    await patch(api, room, system_messages=True)
    user_ids = [each["id"] for each in others]
    body = {"user_ids": user_ids, "by": owner["id"]}
    assert (await api.send("POST", f"{in_room(room)}/members", json=body)).is_success
    await api.send("DELETE", of_user(owner))
    told = (await api.send("GET", f"{in_room(room)}/messages", params={"after": 0})).json()["items"]
    named = [(each["event"]["name"], each["event"]["user_id"]) for each in told]
    assert named == [
        *(("member_joined", user_id) for user_id in user_ids),
        ("member_left", owner["id"]),
        ("role_changed", min(user_ids)),
    ]


async def test_only_owners_change_a_room_in_whose_name_it_is_done(api: ChatApi) -> None:
    owner, member, stranger = [await api.user() for _ in range(3)]
    room = await api.room(owner, member)

    async def rename(by: dict[str, Any]) -> Any:
        return await api.send("PATCH", in_room(room), json={"name": "x", "by": by["id"]})

    refused(await rename(member), 403, "owner_only")
    refused(await rename(stranger), 404, "room_not_found")
    assert (await rename(owner)).json()["name"] == "x"
    many = {"user_ids": [stranger["id"]], "by": member["id"]}
    refused(await api.send("POST", f"{in_room(room)}/members", json=many), 403, "owner_only")
