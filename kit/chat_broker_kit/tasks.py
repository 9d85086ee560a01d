"""Ending tasks that go on until they are cancelled."""

import asyncio
from typing import Any


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel *tasks* until all of them have ended.

    Once is not enough: before Python 3.12, `asyncio.wait_for`, in which libraries wait for a connection, may swallow
    a cancellation that comes just when it is done.
    """
    rest = {task for task in tasks if not task.done()}
    while rest:
        for task in rest:
            task.cancel()
        _, rest = await asyncio.wait(rest, timeout=1)
