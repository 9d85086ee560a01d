"""The audit log: every change is recorded, and none twice."""

import asyncio
from dataclasses import replace

import pytest

from chat_broker.admin.audit_log import AuditRecord, AuditSearch, verify_chain
from chat_broker.admin.audit_writer import ABANDONED_SECONDS, MAX_FOLDS, OTHERS, AuditTrail, ended
from chat_broker.chat.ports import StateUnavailable
from chat_broker.storage.audit import SqlAudit
from chat_broker.storage.database import open_database

START = 1_767_225_600.0 + 20  # twenty seconds into a minute


class Clock:
    now = START

    def __call__(self):
        return self.now


class Flaky:
    """A store that raises StateUnavailable while `gone` is set."""

    def __init__(self, inner):
        self.inner, self.gone = inner, False

    def __getattr__(self, name):
        if self.gone:
            raise StateUnavailable("gone")
        return getattr(self.inner, name)


@pytest.fixture
async def store(tmp_path):
    async with open_database(f"sqlite:///{tmp_path}/broker.db") as database:
        yield Flaky(SqlAudit(database))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def trail(store, clock):
    return AuditTrail(store, store, clock=clock)


def record(number=1, at="2026-01-01T00:00:00.000Z"):
    return AuditRecord(
        f"r{number}", at, "bootstrap", "users.ban", "u1", "ok", "spam", "192.0.2.1", "req", {}
    )


async def outcomes(store):
    return [(link.record.id, link.record.outcome) for link in await store.after(0, 100)]


async def test_what_cannot_be_noted_down_does_not_begin(trail, store):
    store.gone = True
    with pytest.raises(StateUnavailable):
        await trail.begin(record())
    with pytest.raises(StateUnavailable):
        await trail.record(record())


async def test_an_outcome_that_cannot_be_written_is_written_later(trail, store):
    """A request that was carried out keeps its outcome, however long the database is down."""
    await trail.begin(record())
    store.gone = True
    await trail.finish(ended(record(), "refused", code="user_not_found"))
    await trail.stop()
    store.gone = False
    assert await outcomes(store) == []
    await trail.stop()
    assert await outcomes(store) == [("r1", "refused")]
    await trail.stop()
    assert await outcomes(store) == [("r1", "refused")]


async def test_what_a_dead_process_left_open_is_recorded_as_failed(trail, store, clock):
    await trail.begin(record(at="2026-01-01T00:00:20.000Z"))
    other = AuditTrail(store, store, clock=clock)
    clock.now += ABANDONED_SECONDS - 1
    await other.stop()
    assert await outcomes(store) == [], "it may still be at work"
    clock.now += 2
    await other.stop()
    assert await outcomes(store) == [("r1", "failed")]


async def test_a_long_call_of_a_living_process_is_left_alone(trail, store, clock):
    await trail.begin(record(at="2026-01-01T00:00:20.000Z"))
    other = AuditTrail(store, store, clock=clock)
    for _ in range(10):
        clock.now += ABANDONED_SECONDS - 10
        await trail.stop()
        await other.stop()
    assert await outcomes(store) == []
    await trail.finish(record())
    assert await outcomes(store) == [("r1", "ok")]


async def test_the_only_process_closes_what_its_predecessor_left(store, clock):
    await AuditTrail(store, store, clock=clock).begin(record(at="2026-01-01T00:00:19.000Z"))
    alone = asyncio.create_task(AuditTrail(store, store, alone=True, clock=clock).run())
    async with asyncio.timeout(5):
        while not (found := await outcomes(store)):  # noqa: ASYNC110 - a row of a database
            await asyncio.sleep(0.01)
    alone.cancel()
    assert found == [("r1", "failed")]


async def test_unknown_keys_are_one_record_a_minute_and_address(trail, store, clock):
    for address in ("192.0.2.1", "192.0.2.2"):
        for _ in range(50):
            await trail.unknown_key(address=address, request_id="req")
    folds = {fold.ip: fold.detail["count"] for fold in await trail.open_folds()}
    assert folds == {"192.0.2.1": 50, "192.0.2.2": 50}
    assert await outcomes(store) == []
    clock.now += 60
    await trail.unknown_key(address="192.0.2.1", request_id="req")
    await trail.stop()
    final = [(link.record.ip, link.record.detail["count"]) for link in await store.after(0, 100)]
    assert sorted(final) == [("192.0.2.1", 50), ("192.0.2.2", 50)]
    assert [fold.detail["count"] for fold in await trail.open_folds()] == [1]


async def test_replicas_fold_together(store, clock):
    one, two = (AuditTrail(store, store, clock=clock) for _ in range(2))
    for trail in (one, two, one, two):
        await trail.unknown_key(address="192.0.2.1", request_id="req")
    await one.flush()
    assert [fold.detail["count"] for fold in await two.open_folds()] == [4]


async def test_a_flood_of_addresses_is_counted_and_costs_little(trail, store, monkeypatch):
    monkeypatch.setattr("chat_broker.admin.audit_writer.MAX_FOLDS", 5)
    for number in range(50):
        await trail.unknown_key(address=f"198.51.100.{number}", request_id="req")
    folds = {fold.ip: fold.detail["count"] for fold in await trail.open_folds()}
    assert len(folds) == 6
    assert folds[OTHERS] == 45
    assert MAX_FOLDS == 1000


async def test_counts_outlive_a_database_that_was_away(trail, store):
    await trail.unknown_key(address="192.0.2.1", request_id="req")
    store.gone = True
    await trail.unknown_key(address="192.0.2.1", request_id="req")
    await trail.stop()
    store.gone = False
    assert [fold.detail["count"] for fold in await trail.open_folds()] == [2]


async def test_many_calls_at_once_make_a_sound_chain(trail, store):
    async def call(number):
        one = record(number)
        await trail.begin(one)
        await trail.finish(replace(one, outcome="refused" if number % 3 else "ok"))

    await asyncio.gather(*(call(number) for number in range(30)))
    assert verify_chain(link.to_dict() for link in await store.after(0, 100)).checked == 30
    assert len(await store.find(AuditSearch(limit=100))) == 30
