"""The benchmarks compare right answers only: every target is judged as a run judges it, in small."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import crowd, works
from benchmarks.compare import Contender, Lineup, Work, compare, fault, load
from benchmarks.ground import Ground, Running, open_ground
from benchmarks.targets import PYTHON_PEERS, Start, outdated


@pytest.fixture(scope="module")
def lineup() -> Iterator[Lineup]:
    with tempfile.TemporaryDirectory() as folder, open_ground(Path(folder)) as ground:
        yield Lineup(ground)


def cases() -> Iterator[object]:
    """Every contender that can run here; peers join once `make bench` has installed their packages as they are locked now."""
    for work in (*works.ALL, *works.ASKED_FOR):
        for contender in work.contenders:
            name, needs = contender.name, []
            if name.startswith("nginx"):
                needs = [pytest.mark.services("nginx")]
            elif name.startswith(("Fastify", "Express", "Node")):
                if outdated():
                    continue
                needs = [pytest.mark.services("node")]
            elif "tutorial" in name and not (PYTHON_PEERS / "jwt").is_dir():
                continue
            yield pytest.param(work, contender, marks=needs, id=f"{work.key}-{name}")


@pytest.mark.parametrize(("work", "contender"), [*cases()])
def test_a_target_answers_rightly_and_refuses_bad_tokens(
    lineup: Lineup, work: Work, contender: Contender
) -> None:
    running = lineup.get(contender.start)
    ask = work.asks(lineup.ground, running)[0]
    assert fault(running, lineup.ground, ask, work, checks=contender.checks) is None


@pytest.mark.services("nginx")
def test_a_target_that_lets_everybody_in_is_not_measured(lineup: Lineup) -> None:
    """nginx checks no token: judged as a peer, it is left out by name, with the reason."""
    start: Start = next(c.start for c in works.READ.contenders if c.name == works.LIMIT)
    careless = Contender("careless", start, warm=0.1)
    work = Work("read", "read", [careless], works.read, 200, works.is_page)
    table = compare(work, lineup, rounds=1, seconds=0.1, say=lambda _: None)
    assert table.rows == []
    assert "instead of 401" in table.left_out["careless"]


def test_wrong_answers_are_counted_and_not_timed_away(lineup: Lineup) -> None:
    def stub(ground: Ground) -> Running:
        port = int(ground.upstream.rpartition(":")[2])
        return Running("stub", port, 0, ground.folder)

    running = stub(lineup.ground)
    asks = works.read(lineup.ground, running)
    outcome = load(lineup.ground, running.port, asks, status=200, connections=2, seconds=0.2)
    assert outcome.answers > 0
    assert outcome.wrong == outcome.answers
    assert "404" in outcome.first_wrong or "401" in outcome.first_wrong


def test_a_frame_of_the_crowd_is_a_frame_to_others() -> None:
    """Read back by the websockets library, as a server would: both lengths, text, masked."""
    from websockets.frames import Opcode
    from websockets.protocol import State
    from websockets.server import ServerProtocol

    protocol = ServerProtocol(state=State.OPEN)
    for text in ("2", "4" * 125, "4" * 126, "é" * 5000):
        protocol.receive_data(crowd.text_frame(text))
        [frame] = protocol.events_received()
        assert frame.opcode is Opcode.TEXT
        assert bytes(frame.data).decode() == text
