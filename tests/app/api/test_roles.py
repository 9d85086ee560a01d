"""Roles, settings and histories through the broker."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.app.api.test_sync import over_fake
from tests.app.brokers import Person, Running, code_of, running


async def roles(person: Person, room: str) -> dict[str, str]:
    page = (await person.get(f"/rooms/{room}/members")).json()
    return {member["username"]: member["role"] for member in page["items"]}


async def three(broker: Running) -> tuple[Person, Person, Person, str]:
    alice, bob, carl = [await broker.sign_in(name) for name in ("alice", "bob", "carl")]
    for each in (bob, carl):
        await each.get("/me")
    return alice, bob, carl, await alice.room(member_ids=["external:bob"])


async def test_owners_give_and_take_roles(broker: Running) -> None:
    """A user in the path may be named as the app does; who had another role keeps it; the last owner stays one."""
    alice, _, _, room = await three(broker)
    path = f"/rooms/{room}/roles"
    given = await alice.put(f"{path}/moderator/external:bob")
    assert (given.status_code, given.json()["role"]) == (200, "moderator")
    assert (await alice.delete(f"{path}/guest/external:bob")).json()["role"] == "moderator"
    assert (await alice.delete(f"{path}/moderator/external:bob")).json()["role"] == "member"
    added = await alice.put(f"{path}/guest/external:carl")
    assert (added.status_code, added.json()["role"]) == (200, "guest")
    for refused in (
        await alice.put(f"{path}/member/external:alice"),
        await alice.delete(f"{path}/owner/external:alice"),
    ):
        assert (refused.status_code, code_of(refused)) == (409, "last_owner")
    unknown = await alice.put(f"{path}/admin/external:bob")
    assert (unknown.status_code, unknown.json()["errors"][0]["field"]) == (400, "role")
    nobody = await alice.delete(f"{path}/guest/external:nobody")
    assert (nobody.status_code, code_of(nobody)) == (404, "user_not_found")
    in_body = await alice.put(f"{path}/guest/external:bob", {"role": "owner"})
    assert (in_body.status_code, code_of(in_body)) == (400, "identity_not_allowed")


async def test_an_external_id_may_look_like_a_role(broker: Running) -> None:
    """What stands last is the user, whatever it holds."""
    alice, _, _, room = await three(broker)
    chat = broker.app.state.upstream.chat
    user = await chat.users.create(username="odd", external_user_id="dev|x/role/owner")
    answer = await alice.put(f"/rooms/{room}/roles/guest/{user.id}")
    assert answer.json()["role"] == "guest"
    assert (await chat.rooms.member(room, user.id)).role == "guest"


async def test_a_role_counts_at_once_and_a_room_keeps_an_owner(broker: Running) -> None:
    alice, bob, carl, room = await three(broker)
    assert code_of(await bob.patch(f"/rooms/{room}", {"name": "x"})) == "owner_only"
    await alice.put(f"/rooms/{room}/roles/moderator/external:bob")
    assert (await bob.put(f"/rooms/{room}/members/external:carl")).status_code == 200
    assert (await alice.post(f"/rooms/{room}/leave")).status_code == 204
    assert await roles(carl, room) == {"bob": "owner", "carl": "member"}
    assert (await bob.patch(f"/rooms/{room}", {"name": "x"})).status_code == 200
    assert (await bob.delete(f"/rooms/{room}/members/external:bob")).status_code == 204
    assert await roles(carl, room) == {"carl": "owner"}


async def test_settings_change_one_by_one_and_show(broker: Running) -> None:
    alice, bob, _, room = await three(broker)
    assert "settings" not in (await alice.get(f"/rooms/{room}")).json()

    async def patched(**settings: Any) -> Any:
        answer = await alice.patch(f"/rooms/{room}", {"settings": settings})
        assert answer.status_code == 200, answer.text
        return answer.json().get("settings")

    assert await patched(read_only=True) == {"read_only": True}
    assert await patched(reactions=False) == {"read_only": True, "reactions": False}
    refused = await bob.post(f"/rooms/{room}/messages", {"content": "x"})
    assert (refused.status_code, code_of(refused)) == (403, "read_only")
    assert (await alice.say(room))["seq"] == 1
    assert await patched(read_only=False, reactions=True) is None
    for bad in (
        {"colour": 1},
        {"read_only": "yes"},
        {"slow_mode": 3601},
        {"history": "x"},
        None,
        [],
    ):
        answer = await alice.patch(f"/rooms/{room}", {"settings": bad})
        assert answer.status_code == 400, bad
        assert answer.json()["errors"][0]["field"].startswith("settings")


async def test_after_the_edit_window_it_is_too_late(broker: Running) -> None:
    alice, _, _, room = await three(broker)
    said = await alice.say(room)
    path = f"/rooms/{room}/messages/{said['id']}"
    await alice.patch(f"/rooms/{room}", {"settings": {"edit_window": 1}})
    await asyncio.sleep(1.1)
    refused = await alice.patch(path, {"content": "y"})
    assert (refused.status_code, code_of(refused)) == (403, "too_late")
    assert (await alice.delete(path)).status_code == 204


@pytest.mark.parametrize("over_the_wire", [False, True])
@pytest.mark.parametrize("how", ["joined", "cleared"])
async def test_what_is_hidden_from_a_member_is_on_no_route(
    tmp_path: Path, how: str, over_the_wire: bool
) -> None:
    """History from joining, or cleared: at once, also where the membership is remembered."""
    async with running(tmp_path, over_the_wire=over_the_wire) as broker:
        alice, bob, carl, room = await three(broker)
        hidden = [(await alice.say(room, f"hidden {n}"))["id"] for n in range(3)]
        if how == "joined":
            await alice.patch(f"/rooms/{room}", {"settings": {"history": "joined"}})
            reader = carl
            assert (await carl.post(f"/rooms/{room}/join")).status_code == 200
        else:
            reader = bob
            assert len((await bob.get(f"/rooms/{room}/messages")).json()["items"]) == 3
            cleared = await bob.patch(f"/rooms/{room}/mine", {"clear_history": True})
            assert cleared.json()["from_seq"] == 4
        shown = (await alice.say(room, "shown"))["id"]
        path = f"/rooms/{room}/messages"
        ids = ",".join((*hidden, shown))
        for query in ("", "?page=1", "?before=100", "?after=0", "?around=1", f"?ids={ids}"):
            page = (await reader.get(path + query)).json()
            assert [each["id"] for each in page["items"]] == [shown], query
        one = await reader.get(f"{path}/{hidden[0]}")
        assert (one.status_code, code_of(one)) == (404, "message_not_found")
        assert (await reader.get(f"{path}/{shown}")).status_code == 200
        for method in ("PATCH", "DELETE"):
            body = {"content": "x"} if method == "PATCH" else None
            answer = await reader.call(method, f"{path}/{hidden[0]}", body)
            assert code_of(answer) == "message_not_found"
        await alice.patch(f"{path}/{hidden[1]}", {"content": "secret"})
        changes = (await reader.get(f"/rooms/{room}/changes?since_rev=0")).json()["items"]
        assert not any("message" in each for each in changes)
        sync = (await reader.post("/sync", {"messages": 20})).json()
        assert [each["id"] for each in sync["deltas"][0]["missed"]] == [shown]
        assert len((await alice.get(path)).json()["items"]) == 4


async def test_the_hot_path_of_messages_asks_no_more_than_before(broker: Running) -> None:
    """One request for the page, whether something is hidden or not."""
    alice, _, carl, room = await three(broker)
    await alice.say(room)
    await alice.patch(f"/rooms/{room}", {"settings": {"history": "joined"}})
    await carl.post(f"/rooms/{room}/join")
    for reader in (alice, carl):
        await reader.get(f"/rooms/{room}/messages")
        broker.upstream.seen.clear()
        await reader.get(f"/rooms/{room}/messages")
        assert len(broker.upstream.seen) == 1


async def test_a_chat_api_without_roles_works_as_before(tmp_path: Path) -> None:
    """501 for what needs the feature; everything else with the means that there are."""
    async with over_fake(tmp_path, features=("changes",)) as (broker, _):
        alice, bob, _, room = await three(broker)
        for answer in (
            await alice.put(f"/rooms/{room}/roles/guest/external:bob"),
            await alice.delete(f"/rooms/{room}/roles/guest/external:bob"),
            await alice.patch(f"/rooms/{room}", {"settings": {"read_only": True}}),
        ):
            assert (answer.status_code, code_of(answer)) == (501, "unsupported")
        said = await bob.say(room)
        path = f"/rooms/{room}/messages/{said['id']}"
        assert code_of(await alice.patch(path, {"content": "y"})) == "author_only"
        assert (await bob.patch(path, {"content": "y"})).status_code == 200
        assert (await alice.delete(path)).status_code == 204
        assert (await alice.delete(f"/rooms/{room}/members/external:bob")).status_code == 204
