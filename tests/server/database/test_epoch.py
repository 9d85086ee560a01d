"""The epoch: one for all replicas and starts of a database, another for another database."""

from pathlib import Path

import pytest

from tests.contract.servers import ChatApi
from tests.server.database.test_migrations import Old, old
from tests.server.opening import opened, two_replicas

__all__ = ["old"]


async def epoch_of(api: ChatApi) -> str:
    epoch: str = (await api.send("GET", "/api/v1/project")).json()["epoch"]
    return epoch


async def test_an_epoch_outlives_a_restart_and_no_other_database_has_it(tmp_path: Path) -> None:
    async with opened(tmp_path / "one") as (_, api):
        first = await epoch_of(api)
    async with opened(tmp_path / "one") as (_, api):
        assert await epoch_of(api) == first
    async with opened(tmp_path / "two") as (_, api):
        assert await epoch_of(api) not in {first, ""}


@pytest.mark.services("postgres")
async def test_replicas_have_one_epoch(tmp_path: Path, postgres_url: str) -> None:
    async with two_replicas(tmp_path, postgres_url) as (one, two):
        assert await epoch_of(one) == await epoch_of(two)


async def test_a_database_of_before_gets_an_epoch(old: Old, tmp_path: Path) -> None:
    """Also one whose deployment has an id already."""
    await old.make()
    await old.insert("projects", id="default", name="default", created_at="2026")
    async with old.opened(tmp_path / "now") as api:
        assert await epoch_of(api)
