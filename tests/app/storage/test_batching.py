"""Concurrent lookups share one query, and no result is older than its lookup."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from chat_broker.storage import batching
from chat_broker.storage.batching import Gathered


class Oracle:
    """A query that returns its arguments when released, and records each batch."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self._answers: list[asyncio.Future[None]] = []

    async def __call__(self, questions: Sequence[str]) -> list[str | Exception]:
        self.asked.append(list(questions))
        self._answers.append(asyncio.get_running_loop().create_future())
        await self._answers[-1]
        return [KeyError(one) if one == "bad" else one.upper() for one in questions]

    def answer(self, number: int, *, error: Exception | None = None) -> None:
        """Release the query with that number."""
        if error is None:
            self._answers[number].set_result(None)
        else:
            self._answers[number].set_exception(error)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def put(together: Gathered[str, str], *questions: str) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(together.ask(question)) for question in questions]


async def test_what_comes_in_one_turn_of_the_loop_goes_together() -> None:
    together = Gathered(oracle := Oracle(), most=10, lines=1)
    waiting = put(together, "a", "b", "c")
    await turns()
    oracle.answer(0)
    assert await asyncio.gather(*waiting) == ["A", "B", "C"]
    assert oracle.asked == [["a", "b", "c"]]


async def test_no_answer_is_older_than_its_question() -> None:
    """A lookup that comes while its key is being queried waits for the next batch; batches are bounded."""
    together = Gathered(oracle := Oracle(), most=2, lines=1)
    (first,) = put(together, "a")
    await turns()
    others = put(together, "a", "b", "c")
    await turns()
    assert oracle.asked == [["a"]]
    oracle.answer(0)
    await turns()
    assert first.done()
    assert not any(one.done() for one in others)
    oracle.answer(1)
    await turns()
    oracle.answer(2)
    assert await asyncio.gather(*others) == ["A", "B", "C"]
    assert oracle.asked == [["a"], ["a", "b"], ["c"]]


async def test_a_late_answer_holds_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most as many queries as connections run at once; late results are still delivered."""
    monkeypatch.setattr(batching, "IMPATIENT", 0.01)
    together = Gathered(oracle := Oracle(), most=10, lines=2)
    slow = put(together, "slow", "slower")
    await turns()
    (second,) = put(together, "b")
    await asyncio.sleep(0.05)
    assert oracle.asked == [["slow", "slower"], ["b"]]
    (third,) = put(together, "c")
    await asyncio.sleep(0.05)
    assert len(oracle.asked) == 2
    oracle.answer(1)
    assert await second == "B"
    await turns()
    oracle.answer(2)
    assert await third == "C"
    oracle.answer(0)
    assert await asyncio.gather(*slow) == ["SLOW", "SLOWER"]


async def test_an_error_goes_to_whom_it_concerns() -> None:
    together = Gathered(oracle := Oracle(), most=10, lines=1)
    good, bad = put(together, "good", "bad")
    await turns()
    oracle.answer(0)
    assert await good == "GOOD"
    with pytest.raises(KeyError):
        await bad
    failing = put(together, "a", "b")
    await turns()
    oracle.answer(1, error=OSError("away"))
    assert [type(e) for e in await asyncio.gather(*failing, return_exceptions=True)] == [
        OSError
    ] * 2
    (again,) = put(together, "a")
    await turns()
    oracle.answer(2)
    assert await again == "A"


async def test_for_whom_nobody_waits_any_more_nothing_is_asked() -> None:
    together = Gathered(oracle := Oracle(), most=10, lines=1)
    (first,) = put(together, "a")
    await turns()
    gone, stays = put(together, "gone", "stays")
    await turns()
    gone.cancel()
    first.cancel()
    await turns()
    oracle.answer(0)
    await turns()
    oracle.answer(1)
    assert await stays == "STAYS"
    assert oracle.asked == [["a"], ["stays"]]


@pytest.mark.parametrize("seed", range(20))
async def test_after_random_cancels_and_late_answers_everything_adds_up(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results match their lookups, queries stay bounded, and the batcher still works afterwards."""
    monkeypatch.setattr(batching, "IMPATIENT", 0.002)
    chance = random.Random(seed)
    lines, under_way = chance.choice([1, 2, 4]), 0

    async def ask(questions: Sequence[int]) -> list[int | Exception]:
        nonlocal under_way
        under_way += 1
        try:
            assert under_way <= lines
            assert len(questions) <= 5
            await asyncio.sleep(chance.choice([0, 0, 0.001, 0.005]))
            if chance.random() < 0.1:
                raise OSError("away")
            return [KeyError(one) if one % 7 == 0 else -one for one in questions]
        finally:
            under_way -= 1

    together = Gathered(ask, most=5, lines=lines)

    async def one(question: int, timeout: float) -> None:  # noqa: ASYNC109 - the test's own
        try:
            async with asyncio.timeout(timeout):
                assert await together.ask(question) == -question
        except KeyError:
            assert question % 7 == 0
        except OSError:  # TimeoutError is one
            pass

    asking = []
    for question in range(1, 200):
        asking.append(asyncio.create_task(one(question, chance.choice([0.001, 0.003, 60]))))
        for each in chance.sample(asking, min(len(asking), chance.randrange(3))):
            each.cancel()
        await asyncio.sleep(chance.choice([0, 0, 0.0005]))
    for each in await asyncio.gather(*asking, return_exceptions=True):
        assert not isinstance(each, Exception)
    async with asyncio.timeout(5):
        while together._waiting or together._under_way:  # noqa: ASYNC110 - lookups that were cancelled
            await asyncio.sleep(0.001)
    assert (under_way, len(together._late)) == (0, 0)
    await one(1, 5)
