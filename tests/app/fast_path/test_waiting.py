"""What the caches know takes no waiting: a rule that finds all its answers there ends in its first step.

A rule is a coroutine, written once. A task that runs one keeps the loop until a question has to leave the process;
the tests here run them without a loop to go back to, so a question that is asked although its answer is cached fails.
"""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from chat_broker.admission.gate import Arrival
from chat_broker.chat.broker import Window
from chat_broker.chat.policy import Action
from chat_broker.chat.principal import Principal
from chat_broker.errors import NotFound, TooManyRequests
from chat_broker.main import create_app
from tests.app.brokers import Running, running, settings

T = TypeVar("T")
ALICE = Principal("iss", "alice", "alice", username="alice")


def in_one_step(rule: Coroutine[Any, Any, T]) -> T:
    """What *rule* answers without waiting once."""
    try:
        rule.send(None)
    except StopIteration as done:
        answer: T = done.value
        return answer
    rule.close()
    raise AssertionError("the rule waits")


class Known(Arrival):
    """A request of a user whose token is cached."""

    def __init__(self, address: str = "192.0.2.1") -> None:
        self.address = address
        self.principal: Principal | None = ALICE

    @property
    def scope(self) -> Any:
        raise AssertionError  # to make it costs more than the rule


async def test_a_user_who_was_here_a_moment_ago_is_admitted_in_one_step(broker: Running) -> None:
    """Their own limit and their address's are counted, and a limit that is used up refuses likewise."""
    gate = broker.app.gate
    await gate.admit(Known(), "read")
    me, usages = in_one_step(gate.admit(Known(), "read"))
    assert me is ALICE
    assert [(usage.limit.name, usage.remaining) for usage in usages] == [
        ("read", 99_998),
        ("address", 99_998),
    ]


async def test_a_limit_refuses_in_one_step(tmp_path: Path) -> None:
    async with running(tmp_path, rate_read="2/minute") as broker:
        await broker.app.gate.admit(Known(), "read")
        in_one_step(broker.app.gate.admit(Known(), "read"))
        with pytest.raises(TooManyRequests):
            in_one_step(broker.app.gate.admit(Known(), "read"))


async def test_membership_and_identity_are_decided_in_one_step(broker: Running) -> None:
    rules = broker.app.broker
    room = (await rules.create_room(ALICE, {"name": "x"})).id
    await rules.messages(ALICE, room, Window())
    for action in (Action.READ, Action.POST):
        assert in_one_step(rules._may(ALICE, action, room))


async def test_what_is_not_cached_is_waited_for(broker: Running) -> None:
    """Else the tests above would say nothing."""
    asking = asyncio.create_task(broker.app.broker._may(ALICE, Action.READ, "some-room"))
    await asyncio.sleep(0)  # its first step
    assert not asking.done()
    with pytest.raises(NotFound):
        await asking


async def test_a_token_of_the_embedded_chat_api_is_made_in_one_step(tmp_path: Path) -> None:
    """So no ban and no revocation comes between the question whether it may be made, and the token."""
    app = create_app(settings(tmp_path, chat_base_url=None, chat_api_key=None))
    async with app.router.lifespan_context(app):
        tokens = app.broker.tokens
        first = await tokens.mint(ALICE)
        second = in_one_step(tokens.mint(ALICE, expires_in=60))
        assert second.user.id == first.user.id
        assert (second.expires_in, second.session_id != first.session_id) == (60, True)
