"""What runs until it is cancelled ends when it is told to, in the SDK, which stands alone, and in the kit."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import chat_broker_kit.tasks
import chat_broker_sdk._tasks


@pytest.mark.parametrize(
    "end",
    [chat_broker_kit.tasks.cancel_and_wait, chat_broker_sdk._tasks.cancel_and_wait],
    ids=lambda end: end.__module__,
)
async def test_a_task_ends_even_if_it_swallows_a_cancellation(
    end: Callable[..., Coroutine[Any, Any, None]],
) -> None:
    """As `asyncio.wait_for` does before Python 3.12, when cancelled just as it is done."""

    async def swallows_one() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    async def fails() -> None:
        raise ValueError

    failed = asyncio.create_task(fails())
    tasks = [asyncio.create_task(swallows_one()), asyncio.create_task(asyncio.sleep(60)), failed]
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await end(*tasks)
    assert [task.cancelled() for task in tasks] == [True, True, False]
    assert isinstance(failed.exception(), ValueError)
    await end()
