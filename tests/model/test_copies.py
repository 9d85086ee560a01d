"""Clients that lose their connections at random while rooms change: what each has is what the database has.

200 runs by default. MODEL_RUNS sets how many there are on each number of nodes, MODEL_STEPS how long one is.
"""

import asyncio
import os
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chat_broker_server.credentials.api_keys import ApiKeys
from tests.model.actions import ACTIONS, OFTEN
from tests.model.nodes import Node, open_nodes
from tests.model.virtual_time import VirtualClockLoop
from tests.model.world import App, World

RUNS = os.environ.get("MODEL_RUNS")
STEPS = int(os.environ.get("MODEL_STEPS", "12"))
SMALL = st.integers(0, 11)
ACTS = st.tuples(st.sampled_from([*OFTEN, *ACTIONS]), st.tuples(*[SMALL] * 4))
MEANWHILE = st.tuples(
    st.lists(ACTS, min_size=1, max_size=8), st.sampled_from([None, 0.0, 0.004, 0.03])
)
"""What happens at the same time: one after the other with a pause of so many seconds, or all at once."""
Meanwhile = tuple[list[tuple[str, Any]], float | None]


class Clients(RuleBasedStateMachine):
    """Acts of users and of the network, in any order. Each test sets `loop`, `nodes` and `keys`."""

    loop: VirtualClockLoop
    nodes: list[Node]
    keys: ApiKeys

    def run(self, work: Coroutine[Any, Any, Any], meanwhile: Meanwhile = ([], None)) -> None:
        async def both() -> None:
            await asyncio.gather(work, self.acts(*meanwhile))

        self.loop.run_until_complete(both())

    async def acts(self, acts: list[tuple[str, Any]], pause: float | None) -> None:
        if pause is None:
            await asyncio.gather(*[self.world.act(*act) for act in acts])
            return
        for each in acts:
            await self.world.act(*each)
            await asyncio.sleep(pause)

    def app(self, number: int) -> App:
        return self.world.apps[number % len(self.world.apps)]

    def room(self, number: int) -> str:
        return self.world.rooms[number % len(self.world.rooms)]

    @initialize()
    def begin(self) -> None:
        self.world = World(self.nodes, self.keys)
        self.run(self.world.start())

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.run(self.world.check_all())
        finally:
            for node in self.nodes:
                node.bus.repair()
            self.run(self.world.close())

    # -- what users do, and what happens to their applications

    @rule(meanwhile=MEANWHILE, seconds=st.sampled_from([0.0, 0.02, 0.3, 2.0]))
    def act(self, meanwhile: Meanwhile, seconds: float) -> None:
        self.run(self.acts(*meanwhile))
        self.run(asyncio.sleep(seconds))

    @rule(meanwhile=MEANWHILE, app=SMALL, room=SMALL)
    def join(self, meanwhile: Meanwhile, app: int, room: int) -> None:
        self.run(self.app(app).join(self.room(room)), meanwhile)

    @rule(meanwhile=MEANWHILE, app=SMALL, room=SMALL)
    def leave_room(self, meanwhile: Meanwhile, app: int, room: int) -> None:
        self.run(self.app(app).leave_room(self.room(room)), meanwhile)

    @rule(
        meanwhile=MEANWHILE,
        app=SMALL,
        node=SMALL,
        server_notices_after=st.sampled_from([0.0, 0.02, 1.0, 30.0]),
    )
    def lose_connection(
        self, meanwhile: Meanwhile, app: int, node: int, server_notices_after: float
    ) -> None:
        async def lose() -> None:
            each = self.app(app)
            each.transport.move_to(self.world.node(node))
            each.cut(server_notices_after=server_notices_after)

        self.run(lose(), meanwhile)

    @rule(meanwhile=MEANWHILE, app=SMALL)
    def save(self, meanwhile: Meanwhile, app: int) -> None:
        self.app(app).save()
        self.run(self.acts(*meanwhile))

    @rule(meanwhile=MEANWHILE, app=SMALL, node=SMALL)
    def crash(self, meanwhile: Meanwhile, app: int, node: int) -> None:
        self.run(self.app(app).crash(self.world.node(node)), meanwhile)

    @rule(meanwhile=MEANWHILE, app=SMALL)
    def sign_off(self, meanwhile: Meanwhile, app: int) -> None:
        self.run(self.app(app).disconnect(), meanwhile)

    @rule(meanwhile=MEANWHILE, app=SMALL, node=SMALL)
    def come_back(self, meanwhile: Meanwhile, app: int, node: int) -> None:
        async def come_back() -> None:
            each = self.app(app)
            await each.connect(self.world.node(node))
            for room_id in sorted(each.copies):
                await each.join(room_id)

        self.run(come_back(), meanwhile)

    # -- what happens to the bus

    @precondition(lambda self: len(self.nodes) > 1)
    @rule(
        node=SMALL,
        seed=SMALL,
        loses=st.sampled_from([0.0, 0.3]),
        late=st.sampled_from([0.0, 0.03, 0.3]),
        meanwhile=MEANWHILE,
    )
    def disturb_bus(
        self, node: int, seed: int, loses: float, late: float, meanwhile: Meanwhile
    ) -> None:
        self.world.node(node).bus.seed(seed, loses=loses, late=late)
        self.run(self.acts(*meanwhile))

    @precondition(lambda self: len(self.nodes) > 1)
    @rule(node=SMALL, meanwhile=MEANWHILE)
    def cut_bus(self, node: int, meanwhile: Meanwhile) -> None:
        self.world.node(node).bus.cut()
        self.run(self.acts(*meanwhile))

    @precondition(lambda self: len(self.nodes) > 1)
    @rule(node=SMALL, told=st.booleans())
    def repair_bus(self, node: int, told: bool) -> None:
        async def repair() -> None:
            bus = self.world.node(node).bus
            bus.repair()
            if told:
                bus.tell_recovered()

        self.run(repair())

    # -- what has to hold

    @rule(meanwhile=MEANWHILE, app=SMALL, node=SMALL)
    def reconnect_and_compare(self, meanwhile: Meanwhile, app: int, node: int) -> None:
        """At once after a reconnect, whatever the bus does."""

        async def reconnect() -> None:
            each = self.app(app)
            if each.on:
                each.transport.move_to(self.world.node(node))
                each.cut()

        async def compare() -> None:
            each = self.app(app)
            if each.on:
                await each.caught_up()
                await each.check(at_once=True)
            await each.check_list()

        self.run(reconnect(), meanwhile)
        self.run(compare())

    @rule(meanwhile=MEANWHILE)
    def wait_and_compare(self, meanwhile: Meanwhile) -> None:
        """Without a reconnect, after as long as a lost hint may take."""
        self.run(self.acts(*meanwhile))
        self.run(self.world.check_all())


def explore(count: int, runs: int, url: str) -> None:
    """Run the model *runs* times on *count* nodes that share the database."""
    loop = VirtualClockLoop()
    stack = AsyncExitStack()
    try:
        nodes, keys = loop.run_until_complete(open_nodes(stack, url, count))
        machine = type("Machine", (Clients,), {"loop": loop, "nodes": nodes, "keys": keys})
        run_state_machine_as_test(  # type: ignore[no-untyped-call]  # Hypothesis has no types for it
            machine,
            settings=settings(
                max_examples=runs,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                print_blob=True,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        loop.run_until_complete(stack.aclose())
        loop.close()


@pytest.mark.timeout(0 if RUNS else 600)
@pytest.mark.parametrize(("count", "runs"), [(1, 60), (3, 140)])
def test_each_client_has_what_the_database_has(count: int, runs: int, tmp_path: Path) -> None:
    """On one node and on three, with a bus that is late, loses messages, or is cut."""
    memory = Path("/dev/shm")  # noqa: S108 - a commit need not wait for a disk
    folder = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path)
    with folder as name:
        explore(count, int(RUNS or runs), f"sqlite:///{name}/chat.db")
