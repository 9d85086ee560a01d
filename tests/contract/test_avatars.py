"""The picture of a user goes with their name, as it is when it is asked for."""

from tests.contract.servers import ChatApi, in_room

ONE, TWO = "https://example.com/1.png", 'https://example.com/2.png?a="b"&c=é'


async def test_messages_and_members_show_the_present_avatar(api: ChatApi) -> None:
    """Left out for who has none; it raises no `rev`."""
    alice, bob = await api.user(avatar_url=ONE), await api.user()
    room = await api.room(alice, bob)
    path = in_room(room)
    said, plain = await api.say(room, alice, "x"), await api.say(room, bob, "x")
    assert said["avatar_url"] == ONE
    assert "avatar_url" not in plain
    members = (await api.send("GET", f"{path}/members")).json()["items"]
    assert [member.get("avatar_url") for member in members] == [ONE, None]
    assert all("avatar_url" in member for member in members[:1])
    assert "avatar_url" not in members[1]
    user = f"/api/v1/projects/{{pid}}/users/{alice['id']}"
    await api.send("PATCH", user, json={"avatar_url": TWO})
    newest = (await api.send("GET", f"{path}/messages")).json()["items"]
    assert newest[1] == said | {"avatar_url": TWO}


async def test_a_repeated_key_answers_the_avatar_of_the_first_time(api: ChatApi) -> None:
    """The same bytes."""
    alice = await api.user(avatar_url=TWO)
    room = await api.room(alice)
    body = {"content": "x", "user_id": alice["id"]}
    first, again = [
        await api.send(
            "POST", f"{in_room(room)}/messages", json=body, headers={"Idempotency-Key": "k"}
        )
        for _ in range(2)
    ]
    assert first.json()["avatar_url"] == TWO
    assert again.content == first.content


async def test_messages_tell_that_their_author_is_gone(api: ChatApi) -> None:
    alice, bob = await api.user(), await api.user(avatar_url=ONE)
    room = await api.room(alice, bob)
    said = await api.say(room, bob, "x")
    assert "author_deleted" not in said
    await api.send("DELETE", f"/api/v1/projects/{{pid}}/users/{bob['id']}")
    (left,) = (await api.send("GET", f"{in_room(room)}/messages")).json()["items"]
    assert left["author_deleted"] is True
    assert "avatar_url" not in left
