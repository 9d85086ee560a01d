"""How many users a user may block, also where many are blocked at once."""

import asyncio
from functools import partial

from chat_broker_kit.database.transactions import Query, all_rows
from chat_broker_server.chat import blocks
from chat_broker_server.chat.models import UserDraft
from chat_broker_server.chat.service import Chat
from chat_broker_server.errors import Conflict, Forbidden
from tests.server.chat.test_mine import P, chat

__all__ = ["chat"]


async def user(chat: Chat, name: str) -> str:
    return (await chat.create_user(P, UserDraft(username=name, external_user_id=name))).id


async def test_a_thousand_users_are_blocked_at_most(chat: Chat) -> None:
    """Of several at once as many as fit; one that is blocked already may be named again."""
    me, *others = [await user(chat, f"user{n}") for n in range(6)]
    fill = Query(
        "INSERT INTO users (project_id, id, external_user_id, username, created_at, updated_at)"
        " SELECT $1, 'x' || u.n, 'x' || u.n, 'x' || u.n, '', ''"
        " FROM (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < $2)"
        " SELECT n FROM c) u",
        P,
        blocks.MOST - 2,
    )
    await chat.database.write(partial(all_rows, fill))
    block_all = Query(
        "INSERT INTO blocks (project_id, user_id, blocked_id, created_at)"
        " SELECT project_id, $2, id, '' FROM users WHERE project_id = $1 AND id LIKE 'x%'",
        P,
        me,
    )
    await chat.database.write(partial(all_rows, block_all))
    results = await asyncio.gather(
        *(chat.block(P, me, other) for other in others), return_exceptions=True
    )
    refused = [result for result in results if result is not None]
    assert [type(result) for result in refused] == [Conflict] * 3
    assert {str(result).partition(":")[0] for result in refused} == {"too_many_blocks"}
    assert (await chat.blocks(P, me)).total == blocks.MOST
    await chat.block(P, me, others[results.index(None)])
    await chat.unblock(P, me, "x1")
    await chat.block(P, me, others[results.index(refused[0])])


async def test_two_who_block_each_other_at_once_both_do(chat: Chat) -> None:
    one, other = await user(chat, "one"), await user(chat, "other")
    await asyncio.gather(chat.block(P, one, other), chat.block(P, other, one))
    for each in (one, other):
        assert (await chat.blocks(P, each)).total == 1


async def test_a_direct_room_is_refused_whoever_of_the_two_blocks(chat: Chat) -> None:
    one, other, third = [await user(chat, name) for name in ("one", "other", "third")]

    async def is_refused(user_id: str, *others: str) -> bool:
        try:
            await chat.database.read(partial(blocks.refuse_blocked, P, user_id, others))
        except Forbidden as error:
            return error.code == "blocked"
        return False

    assert not await is_refused(one, other, third)
    await chat.block(P, one, other)
    assert await is_refused(one, third, other)
    assert await is_refused(other, one)
    assert not await is_refused(third, one, other)
    await chat.unblock(P, one, other)
    assert not await is_refused(other, one)
