"""Questions that come together are asked together: a trip to another process costs more than what it carries."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")

IMPATIENT = 0.02
"""Seconds after which an answer is late, and others no longer wait for it."""


class Gathered(Generic[Q, A]):
    """Asks *ask* for many at once. What comes while an answer is under way makes up the next question.

    No answer is older than the question it is given to. *ask* answers in the order it was asked in, an exception
    where there is one for a single question; what it raises goes to all. Nobody waits for a late answer to
    somebody else's question, unless *lines* are late already.
    """

    def __init__(
        self,
        ask: Callable[[Sequence[Q]], Awaitable[Sequence[A | Exception]]],
        *,
        most: int,
        lines: int,
    ) -> None:
        """*most* questions go together."""
        self._ask = ask
        self._most = most
        self._lines = lines
        self._waiting: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._late: set[asyncio.Task[None]] = set()

    async def ask(self, question: Q) -> A:
        """The answer to *question*, which is not put before now."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        self._go_on()
        return await answer

    def _go_on(self) -> None:
        if self._waiting and len(self._under_way) == len(self._late) < self._lines:
            # In a context of its own, since it belongs to no request; and when this turn of the loop is over.
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
        asked = [one for one in asked if not one[1].done()]  # or nobody waits for it any more
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
        except Exception as error:  # noqa: BLE001 - it goes to those who asked
            for _, waiter in asked:
                if not waiter.done():
                    waiter.set_exception(error)
        finally:
            late.cancel()
            for _, waiter in asked:
                waiter.cancel()  # does nothing to one that has its answer
