"""What a run says of a goal follows from its tables alone; of what it did not measure, it says nothing."""

import pytest

from benchmarks import fanout, growth, startup, workers, works
from benchmarks.compare import Measured, Table
from benchmarks.goals import Verdict, as_text, decide


def table(key: str, **costs: float) -> Table:
    """*costs* by name; a name with other letters than Python's goes in as a dictionary."""
    return Table(key, key, "µs", [Measured(name, cost, 0, 0, 0, 0) for name, cost in costs.items()])


def verdicts(*tables: Table) -> dict[str, Verdict]:
    return {f"{one.name}, {one.unit}": one for one in decide(tables)}


def test_what_was_not_measured_is_not_judged() -> None:
    assert decide([]) == []
    assert decide([table("read", **{works.OURS: 50})]) == []
    assert [*verdicts(table("read", **{works.OURS: 50, works.LIMIT: 10}))] == [
        "proxied GET, of nginx"
    ]


@pytest.mark.parametrize(
    ("peer", "verdict"), [(99.0, "missed"), (100.0, "met"), (199.0, "met"), (200.0, "aim reached")]
)
def test_a_ratio_is_met_from_its_bound_upwards(peer: float, verdict: str) -> None:
    [found] = decide([table("read", **{works.OURS: 50, works.PEER: peer})])
    assert (found.measured, found.at_least, found.aim) == (peer / 50, 2, 4)
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("ours", "verdict"), [(201.0, "missed"), (200.0, "met"), (131.0, "met"), (130.0, "aim reached")]
)
def test_a_cost_is_met_from_its_bound_downwards(ours: float, verdict: str) -> None:
    [found] = [
        one
        for one in decide([table("start", **{startup.PEER: 100, startup.OURS: ours})])
        if "remote" in one.name
    ]
    assert (found.measured, found.verdict) == (ours / 100, verdict)


def test_a_goal_without_an_aim_is_met_at_best() -> None:
    [found] = decide([table("read", **{works.OURS: 1, works.TUTORIAL: 1000})])
    assert (found.aim, found.verdict) == (None, "met")


def test_a_remote_token_is_judged_without_the_one_call() -> None:
    costs = {works.OURS: 130, works.ONE_CALL: 60, works.NO_CALL: 20}
    found = verdicts(table("token", **costs))["a fresh token, remote, above the one call, µs"]
    assert (found.measured, found.verdict) == (90, "met")


def test_added_latency_is_a_difference() -> None:
    rows = [Measured(works.OURS, 0, 0, 0.30, 0, 0), Measured(works.LIMIT, 0, 0, 0.12, 0, 0)]
    [found] = decide([Table("latency", "", "", rows)])
    assert (found.measured, found.verdict) == (pytest.approx(0.18), "missed")


def test_two_workers_can_do_twice_what_one_costs_by_what_two_cost() -> None:
    [found] = decide([table(workers.READ, **{workers.ONE: 90, workers.TWO: 100})])
    assert (found.measured, found.verdict) == (1.8, "met")


def test_of_what_has_grown_the_worst_call_counts() -> None:
    page, cursor = "growth, messages, page 1", "growth, messages, cursor in the middle"
    flat = {growth.SMALL_ONE: 100, growth.BIG_ONE: 101}
    steep = {growth.SMALL_ONE: 100, growth.BIG_ONE: 130}
    assert decide([table(page, **flat)]) == []
    [found] = decide([table(page, **flat), table(cursor, **steep)])
    assert (found.measured, found.verdict) == (1.3, "missed")


def test_each_verdict_has_a_line_with_what_was_measured() -> None:
    found = decide([table("fanout-burst", **{fanout.OURS: 10, fanout.PEER: 12})])
    line = as_text(found).splitlines()[-1]
    assert " ".join(line.split()) == "to a room of 200, at once, × Node socket.io 1.200 1 1.4 met"
