"""Which optional features callers may use: those of the Chat API, less those that the operator switched off."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from chat_broker.errors import directory_off, unsupported
from chat_broker_sdk import AsyncChatClient

FRESH_FOR = 5.0
"""Seconds for which what the Chat API says of itself is not asked for again."""


@dataclass(frozen=True, slots=True)
class Offer:
    """The features that callers may use, the Chat API's limits, and the epoch of its database (None: it has none)."""

    features: tuple[str, ...]
    limits: dict[str, Any]
    epoch: str | None


class Features:
    """Answers what is offered, and refuses what is not."""

    def __init__(
        self,
        chat: AsyncChatClient,
        switched_off: Collection[str] = (),
        *,
        has_directory: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """*has_directory*: whether the operator lets users find each other by name."""
        self._chat = chat
        self._switched_off = frozenset(switched_off)
        self._has_directory = has_directory
        self._clock = clock
        self._fresh_until = float("-inf")

    async def offer(self) -> Offer:
        """What is offered now. A Chat API that has changed is noticed within 5 s, and `require` then knows of it."""
        refresh = self._clock() >= self._fresh_until
        if refresh:
            self._fresh_until = self._clock() + FRESH_FOR
        project = await self._chat.project(refresh=refresh)
        names = [name for name in project.features if self._is_on(name)]
        return Offer(tuple(names), project.limits, project.epoch)

    async def require(self, name: str) -> None:
        """Raise NotSupported `unsupported` unless callers may use the feature; Refused `directory_off` for the directory."""
        self.refuse_switched_off(name)
        if not await self._chat.supports(name):
            raise unsupported(name)

    def refuse_switched_off(self, name: str) -> None:
        """Raise NotSupported `unsupported` if the operator switched the feature off: for what the SDK emulates."""
        if name in self._switched_off:
            raise unsupported(name)
        if not self._is_on(name):
            raise directory_off()

    def _is_on(self, name: str) -> bool:
        return name not in self._switched_off and (name != "directory" or self._has_directory)
