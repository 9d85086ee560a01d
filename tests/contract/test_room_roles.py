"""Roles: who is the owner when owners go, who may act on whom, and what guests may not."""

from typing import Any

import pytest

from tests.contract.servers import ChatApi, in_room, of_user, refused


async def roles(api: ChatApi, room: dict[str, Any]) -> dict[str, str]:
    """The role of each member by user id."""
    page = (await api.send("GET", f"{in_room(room)}/members")).json()
    return {member["user_id"]: member["role"] for member in page["items"]}


async def put(api: ChatApi, room: dict[str, Any], user: dict[str, Any], **body: Any) -> Any:
    return await api.send("PUT", f"{in_room(room)}/members/{user['id']}", json=body)


async def remove(api: ChatApi, room: dict[str, Any], user: dict[str, Any], **query: Any) -> Any:
    return await api.send("DELETE", f"{in_room(room)}/members/{user['id']}", params=query)


async def leave(api: ChatApi, room: dict[str, Any], user: dict[str, Any]) -> Any:
    return await api.send("POST", f"{in_room(room)}/leave", json={"user_id": user["id"]})


async def delete(api: ChatApi, room: dict[str, Any], user: dict[str, Any]) -> Any:
    return await api.send("DELETE", of_user(user))


GO = {"leaves": leave, "is removed": remove, "is deleted": delete}


@pytest.mark.parametrize("go", GO.values(), ids=list(GO))
async def test_when_the_last_owner_goes_the_longest_standing_of_the_highest_role_follows(
    api: ChatApi, go: Any
) -> None:
    """A moderator, else a member, else a guest; a room that is empty has no owner, and its next member owns it."""
    owner, member, moderator, second = [await api.user() for _ in range(4)]
    guest = await api.user()
    room = await api.room(owner)
    await put(api, room, guest, role="guest")
    await put(api, room, member)
    for each in (moderator, second):
        assert (await put(api, room, each, role="moderator")).json()["role"] == "moderator"
    expected = [moderator, second, member, guest]
    goes = owner
    for heir in expected:
        before = (await api.send("GET", in_room(room))).json()["rev"]
        assert (await go(api, room, goes)).status_code == 204
        assert (await roles(api, room))[heir["id"]] == "owner"
        query = {"since_rev": before}
        told = (await api.send("GET", f"{in_room(room)}/changes", params=query)).json()["items"]
        assert [(each["user_id"], bool(each["member"])) for each in told] == [
            (goes["id"], False),
            (heir["id"], True),
        ]
        assert told[1]["member"]["role"] == "owner"
        goes = heir
    await go(api, room, guest)
    assert await roles(api, room) == {}
    late = await api.user()
    joined = await api.send("POST", f"{in_room(room)}/join", json={"user_id": late["id"]})
    assert joined.json()["role"] == "owner"


async def test_while_there_is_another_owner_nobody_follows(api: ChatApi) -> None:
    one, two, moderator = [await api.user() for _ in range(3)]
    room = await api.room(one)
    await put(api, room, two, role="owner")
    await put(api, room, moderator, role="moderator")
    await leave(api, room, one)
    assert await roles(api, room) == {two["id"]: "owner", moderator["id"]: "moderator"}


async def test_the_last_owner_stays_one(api: ChatApi) -> None:
    """409 `last_owner`, whoever asks; with a second owner the role can go."""
    owner, other = await api.user(), await api.user()
    room = await api.room(owner, other)
    for by in ({}, {"by": owner["id"]}):
        refused(await put(api, room, owner, role="member", **by), 409, "last_owner")
        assert (await put(api, room, owner, role="owner", **by)).status_code == 200
    await put(api, room, other, role="owner")
    assert (await put(api, room, owner, role="guest")).json()["role"] == "guest"
    assert await roles(api, room) == {owner["id"]: "guest", other["id"]: "owner"}


async def test_nobody_acts_on_their_own_rank_or_above_owners_excepted(api: ChatApi) -> None:
    owner, other, moderator, peer, member, guest = [await api.user() for _ in range(6)]
    room = await api.room(owner, member)
    named = {"owner": other, "moderator": peer, "guest": guest}
    for role, user in named.items():
        await put(api, room, user, role=role)
    await put(api, room, moderator, role="moderator")
    as_moderator, as_member = {"by": moderator["id"]}, {"by": member["id"]}
    for user in (other, peer):
        refused(await remove(api, room, user, **as_moderator), 403, "owner_only")
    refused(await put(api, room, guest, role="member", **as_moderator), 403, "owner_only")
    refused(await remove(api, room, guest, **as_member), 403, "owner_only")
    refused(await remove(api, room, member, by=guest["id"]), 403, "owner_only")
    stranger = await api.user()
    refused(await put(api, room, stranger, **as_member), 403, "owner_only")
    refused(await remove(api, room, guest, by=stranger["id"]), 404, "room_not_found")
    assert (await put(api, room, stranger, **as_moderator)).json()["role"] == "member"
    for user in (stranger, guest):
        assert (await remove(api, room, user, **as_moderator)).status_code == 204
    assert (await remove(api, room, moderator, **as_moderator)).status_code == 204
    assert (await remove(api, room, other, by=owner["id"])).status_code == 204
    assert await roles(api, room) == {
        owner["id"]: "owner",
        peer["id"]: "moderator",
        member["id"]: "member",
    }


async def test_moderators_delete_any_message_but_an_owners(api: ChatApi) -> None:
    owner, moderator, peer, member, guest, gone = [await api.user() for _ in range(6)]
    room = await api.room(owner, member, guest, gone)
    for user in (moderator, peer):
        await put(api, room, user, role="moderator")
    said = {
        user["id"]: await api.say(room, user, "x") for user in (owner, peer, member, guest, gone)
    }
    await put(api, room, guest, role="guest")
    await leave(api, room, gone)

    async def deletes(who: dict[str, Any], author: dict[str, Any]) -> Any:
        path = f"{in_room(room)}/messages/{said[author['id']]['id']}"
        return await api.as_user(await api.token(who), "DELETE", path)

    refused(await deletes(moderator, owner), 403, "not_the_author")
    refused(await deletes(guest, member), 403, "not_the_author")
    refused(await deletes(member, guest), 403, "not_the_author")
    for author in (peer, gone):
        assert (await deletes(moderator, author)).status_code == 204
    assert (await deletes(guest, guest)).status_code == 204
    assert (await deletes(owner, owner)).status_code == 204


async def test_guests_read_and_do_not_post(api: ChatApi) -> None:
    """403 `read_only` through each door; what they said before they became one can be edited and sent again."""
    owner, guest = await api.user(), await api.user()
    room = await api.room(owner, guest)
    messages = f"{in_room(room)}/messages"
    before = await api.say(room, guest, "before", client_msg_id="c")
    await put(api, room, guest, role="guest")
    token = await api.token(guest)
    assert (await api.as_user(token, "GET", messages)).json()["total"] == 1
    assert (await api.as_user(token, "PUT", f"{in_room(room)}/read", json={"seq": 1})).is_success
    refused(await api.as_user(token, "POST", messages, json={"content": "x"}), 403, "read_only")
    by_key = {"content": "x", "user_id": guest["id"]}
    refused(await api.send("POST", messages, json=by_key), 403, "read_only")
    again = {"content": "before", "client_msg_id": "c"}
    assert (await api.as_user(token, "POST", messages, json=again)).json()["id"] == before["id"]
    edit = {"content": "after"}
    assert (await api.as_user(token, "PATCH", f"{messages}/{before['id']}", json=edit)).is_success
    await put(api, room, guest, role="member")
    assert (await api.as_user(token, "POST", messages, json={"content": "x"})).status_code == 201


async def test_a_role_that_is_none_is_refused(api: ChatApi) -> None:
    owner = await api.user()
    room = await api.room(owner)
    problem = refused(await put(api, room, owner, role="admin"), 400, "invalid_input")
    assert problem["errors"][0]["field"] == "role"
