"""Users find each other by the beginning of a name."""

import random
from pathlib import Path

import pytest

from chat_broker_kit.text.folding import fold
from chat_broker_server.chat.models import UserChanges, UserDraft
from chat_broker_server.chat.service import Chat
from chat_broker_server.errors import NotFound
from tests.contract.servers import embedded, of_user, refused
from tests.server.chat.test_mine import P, chat

__all__ = ["chat"]


async def user(chat: Chat, name: str, shown: str | None = None) -> str:
    draft = UserDraft(username=name, external_user_id=f"ext-{name}", display_name=shown)
    return (await chat.create_user(P, draft)).id


async def test_a_name_is_found_by_its_beginning_in_any_case_and_without_accents(
    chat: Chat,
) -> None:
    """Username or display name; neither the middle of a name nor the external id; each user once, by name."""
    ann = await user(chat, "Annika", "Ännchen Straße")
    bob = await user(chat, "bob", "Anton_%")
    await user(chat, "joanna", "Joanna")
    await user(chat, "carl", None)

    async def found(q: str, limit: int = 20) -> list[str]:
        return [each.id for each in await chat.find_users(P, bob, q, limit)]

    for q in ("an", "AN", "ÄN", "än"):
        assert await found(q) == [ann, bob], q
    assert await found("an", 1) == [ann]
    assert await found("ännchen strasse") == [ann]
    assert await found("annika") == [ann]
    assert await found("anton_%") == [bob]
    for q in ("nna", "ext-", "%", "_", "annikas", "straße", "zz", "\U0010ffff"):
        assert await found(q) == [], q


async def test_who_blocks_the_reader_or_is_suspended_or_deleted_is_not_found(
    chat: Chat,
) -> None:
    """Whom the reader blocks is found: the list of blocks is the reader's own."""
    me = await user(chat, "me")
    blocker, blocked, gone, suspended = [
        await user(chat, f"user-{name}", "Shown") for name in ("a", "b", "c", "d")
    ]
    await chat.block(P, blocker, me)
    await chat.block(P, me, blocked)
    await chat.delete_user(P, gone)
    await chat.update_user(P, suspended, UserChanges(status="suspended"))
    for q in ("user", "shown"):
        assert [each.id for each in await chat.find_users(P, me, q, 20)] == [blocked]
    assert len(await chat.find_users(P, blocked, "user", 20)) == 2
    with pytest.raises(NotFound, match="user_not_found"):
        await chat.find_users(P, gone, "user", 20)


async def test_what_is_found_equals_looking_at_every_user(chat: Chat) -> None:
    """Random names of letters that fold; every prefix."""
    chance = random.Random(5)
    letters = "aAäÅbßſİızé日本가"
    users = {}
    for number in range(60):
        shown = "".join(chance.choices(letters, k=chance.randint(1, 4)))
        name = "".join(chance.choices("abAB.", k=chance.randint(1, 3))) + str(number)
        users[await user(chat, name, shown)] = (name, shown)
    reader = next(iter(users))
    for _ in range(150):
        q = "".join(chance.choices(letters, k=chance.randint(1, 2)))
        expected = {
            user_id
            for user_id, names in users.items()
            if any(fold(name).startswith(fold(q)) for name in names)
        }
        found = [each.id for each in await chat.find_users(P, reader, q, 1000)]
        assert set(found) == expected, q
        assert len(found) == len(expected)


async def test_the_route_answers_users_as_others_see_them(tmp_path: Path) -> None:
    async with embedded(tmp_path) as api:
        user = await api.user("ann", email="ann@example.com", display_name="Ann")
        path = f"{of_user(user)}/directory"
        answer = await api.send("GET", f"{path}?q=ann&limit=1")
        shown = {name: user[name] for name in ("id", "username", "display_name", "avatar_url")}
        assert (answer.status_code, answer.json()) == (200, {"items": [shown]})
        assert "directory" in (await api.send("GET", "/api/v1/project")).json()["features"]
        for query, field in (
            ("", "q"),
            ("?q=", "q"),
            (f"?q={'x' * 129}", "q"),
            ("?q=a%0Ab", "q"),
            ("?q=a&limit=21", "limit"),
            ("?q=a&limit=0", "limit"),
            ("?q=a&page=1", "page"),
        ):
            body = refused(await api.send("GET", path + query), 400)
            assert field in str(body["errors"]) or body["code"] == "invalid_query", query
