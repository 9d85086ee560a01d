"""Cancelling tasks that would otherwise run forever."""

import asyncio
from typing import Any


async def cancel_and_wait(*tasks: asyncio.Task[Any]) -> None:
    """Cancel *tasks* until all of them have ended.

    One cancellation may be lost: before Python 3.12 `asyncio.wait_for`, which libraries use to connect, swallows
    one that arrives just as it finishes.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1)
