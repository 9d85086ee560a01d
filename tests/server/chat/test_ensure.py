"""Rooms that are there once, for callers of two servers on one database at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import postgres_database
from tests.contract.servers import ChatApi
from tests.server.opening import two_replicas

CALLERS = 20


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services("postgres"))])
async def nodes(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[ChatApi, ChatApi]]:
    async with AsyncExitStack() as stack:
        url = f"sqlite:///{tmp_path / 'shared.db'}"
        if request.param == "postgres":
            url = await stack.enter_async_context(postgres_database())
        yield await stack.enter_async_context(two_replicas(tmp_path, url))


async def at_once(
    nodes: tuple[ChatApi, ChatApi],
    call: Callable[[ChatApi, int], Awaitable[httpx.Response]],
) -> list[dict[str, Any]]:
    """The rooms that CALLERS got, half of them of each node; one of them made it."""
    answers = await asyncio.gather(
        *(call(nodes[number % 2], number // 2) for number in range(CALLERS))
    )
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200] * (CALLERS - 1) + [201], [answer.text for answer in answers]
    return [answer.json() for answer in answers]


async def test_a_set_of_users_gets_one_room(nodes: tuple[ChatApi, ChatApi]) -> None:
    """Each caller names the same users in another order, and some twice."""
    one, two = nodes
    users = [(await one.user("user"))["id"] for _ in range(8)]

    async def ensure(api: ChatApi, number: int) -> httpx.Response:
        named = users[number % 8 :] + users[: number % 8]
        body = {"user_ids": named, "created_by": named[-1]}
        return await api.send("PUT", "/api/v1/projects/{pid}/direct", json=body)

    rooms = await at_once(nodes, ensure)
    assert len({room["id"] for room in rooms}) == 1
    for room in rooms:
        assert [user["id"] for user in room["members"]] == sorted(users)
    listed = (await two.send("GET", "/api/v1/projects/{pid}/rooms?kind=direct")).json()
    assert listed["total"] == 1


async def test_an_external_id_gets_one_room_with_all_who_were_named(
    nodes: tuple[ChatApi, ChatApi],
) -> None:
    one, two = nodes
    users = [(await one.user("user"))["id"] for _ in range(CALLERS)]

    async def ensure(api: ChatApi, number: int) -> httpx.Response:
        mine = users[number :: CALLERS // 2]
        body = {"name": "Order", "created_by": mine[0], "member_ids": mine}
        path = "/api/v1/projects/{pid}/rooms/external:order"
        return await api.send("PUT", path, json=body)

    rooms = await at_once(nodes, ensure)
    assert len({room["id"] for room in rooms}) == 1
    path = "/api/v1/projects/{pid}/rooms/external:order"
    members = (await two.send("GET", f"{path}/members?limit=200")).json()["items"]
    assert sorted(member["user_id"] for member in members) == sorted(users)
    assert [member["role"] for member in members].count("owner") == 1
    room = (await two.send("GET", path)).json()
    assert room["member_count"] == CALLERS
