"""Batches concurrent queries: a round trip to another process costs more than the queries in it."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")

IMPATIENT = 0.02
"""Seconds after which a batch is late, and the next one no longer waits for it."""


class Gathered(Generic[Q, A]):
    """Runs queries in batches: queries that arrive while a batch is under way form the next one.

    A result is never older than its query. *ask* returns results in the order of the queries, an exception in place
    of a single failed one; what it raises fails the whole batch. A late batch holds up no later one, unless *lines*
    batches are late.
    """

    def __init__(
        self,
        ask: Callable[[Sequence[Q]], Awaitable[Sequence[A | Exception]]],
        *,
        most: int,
        lines: int,
    ) -> None:
        """*most*: queries in a batch."""
        self._ask = ask
        self._most = most
        self._lines = lines
        self._waiting: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._late: set[asyncio.Task[None]] = set()

    async def ask(self, question: Q) -> A:
        """The result of *question*, read after this call."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        self._go_on()
        return await answer

    def _go_on(self) -> None:
        if self._waiting and len(self._under_way) == len(self._late) < self._lines:
            # In an empty context, since a batch belongs to no request. It starts after the present turn of the loop,
            # so that queries of the same turn share it.
            task = asyncio.get_running_loop().create_task(self._put(), context=Context())
            self._under_way.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._late.discard(task)
        self._go_on()

    def _is_late(self, task: asyncio.Task[None] | None) -> None:
        if task in self._under_way:
            self._late.add(task)
        self._go_on()

    async def _put(self) -> None:
        waiting = self._waiting
        asked = [waiting.popleft() for _ in range(min(len(waiting), self._most))]
        asked = [
            pair for pair in asked if not pair[1].done()
        ]  # without queries that were cancelled
        if not asked:
            return
        late = asyncio.get_running_loop().call_later(
            IMPATIENT, self._is_late, asyncio.current_task()
        )
        try:
            answers = await self._ask([question for question, _ in asked])
            for (_, waiter), answer in zip(asked, answers, strict=True):
                if waiter.done():
                    continue
                if isinstance(answer, Exception):
                    waiter.set_exception(answer)
                else:
                    waiter.set_result(answer)
        except Exception as error:  # noqa: BLE001 - every caller gets it
            for _, waiter in asked:
                if not waiter.done():
                    waiter.set_exception(error)
        finally:
            late.cancel()
            for _, waiter in asked:
                waiter.cancel()  # has no effect on one with a result
