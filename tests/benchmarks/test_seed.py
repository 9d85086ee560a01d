"""A seeded database is one the server would have made."""

import sqlite3
from pathlib import Path

import httpx
import pytest

from scripts.seed import Seeded, Sizes, seed
from tests.programs import running_server

SIZES = Sizes(users=60, messages=130, members=50, joined=5)


async def read_over_rest(url: str, made: Seeded) -> None:
    project = f"{url}/api/v1/projects/{made.project_id}"
    async with httpx.AsyncClient(trust_env=False, headers={"X-API-Key": made.api_key}) as http:
        users = (await http.get(f"{project}/users")).json()
        assert users["total"] == SIZES.users
        rooms = (await http.get(f"{project}/rooms", params={"member_id": made.user_id})).json()
        assert rooms["total"] == SIZES.joined
        big = next(room for room in rooms["items"] if room["id"] == made.room_id)
        assert (big["member_count"], big["last_seq"]) == (SIZES.members, SIZES.messages)
        own = -(-SIZES.messages // SIZES.members)
        assert big["unread"] == SIZES.messages - own
        messages = (await http.get(f"{project}/rooms/{made.room_id}/messages")).json()
        assert messages["total"] == SIZES.messages
        assert messages["items"][0]["seq"] == SIZES.messages
        said = await http.post(
            f"{project}/rooms/{made.room_id}/messages",
            json={"content": "and on it goes", "user_id": made.user_id},
        )
        assert (said.status_code, said.json()["seq"]) == (201, SIZES.messages + 1)


async def test_a_seeded_sqlite_database_serves_as_if_lived_in(tmp_path: Path) -> None:
    path = tmp_path / "seeded.db"
    made = await seed(f"sqlite:///{path}", SIZES)
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    async with running_server(CHAT_DATABASE_URL=f"sqlite:///{path}") as server:
        await read_over_rest(server.url, made)


@pytest.mark.services("postgres")
async def test_a_seeded_postgres_database_serves_as_if_lived_in(postgres_url: str) -> None:
    made = await seed(postgres_url, SIZES)
    async with running_server(CHAT_DATABASE_URL=postgres_url) as server:
        await read_over_rest(server.url, made)
