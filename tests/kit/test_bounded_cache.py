"""One tool for what is remembered for a while: bounded, on a clock, and never empty at once."""

from collections import OrderedDict
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_broker_kit.bounded_cache import BoundedCache, ExpiringCache


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("size", [1, 2, 3, 10, 1_000])
def test_a_full_cache_forgets_one_not_all(size: int) -> None:
    """Else everybody would be looked up again in the same second."""
    cache = BoundedCache[int, int](size)
    for number in range(3 * size):
        cache.put(number, number)
        assert len(cache) == min(number + 1, size)
    assert [cache.get(number) for number in range(2 * size, 3 * size)] == [
        *range(2 * size, 3 * size)
    ]
    assert cache.get(2 * size - 1) is None


def test_the_least_recently_used_goes_first() -> None:
    """A read is a use, and so is writing it anew."""
    cache = BoundedCache[str, int](3)
    for name in ("read", "written", "neither"):
        cache.put(name, 1)
    assert cache.get("read") == 1
    cache.put("written", 2)
    cache.put("new", 1)
    assert cache.get("neither") is None
    assert (cache.get("read"), cache.get("written"), cache.get("new")) == (1, 2, 1)


def test_an_entry_lasts_for_its_seconds_and_no_longer() -> None:
    """Reading it makes it last no longer; writing it does."""
    cache = ExpiringCache[str, int](3, seconds=5.0, clock=(clock := Clock()))
    cache.put("a", 1)
    clock.now = 4.9
    assert cache.get("a") == 1
    clock.now = 5.0
    assert cache.get("a") is None
    assert len(cache) == 0
    cache.put("a", 2)
    clock.now = 9.9
    assert cache.get("a") == 2


def test_an_entry_may_end_at_an_instant_of_its_own() -> None:
    """A slow answer is believed from when it was asked for; a token no longer than it lives."""
    cache = ExpiringCache[str, int](3, seconds=5.0, clock=(clock := Clock()))
    cache.put("short", 1, until=1.0)
    cache.put("long", 1, until=60.0)
    clock.now = 59.0
    assert (cache.get("short"), cache.get("long")) == (None, 1)


def test_without_seconds_nothing_ends_by_itself() -> None:
    cache = ExpiringCache[str, int](3, clock=(clock := Clock()))
    cache.put("a", 1)
    clock.now = 1e12
    assert cache.get("a") == 1


def test_what_may_be_wrong_is_forgotten() -> None:
    """One entry, or all; forgetting what is not there is nothing."""
    cache = BoundedCache[str, int](3)
    for name in "abc":
        cache.put(name, 1)
    cache.forget("a")
    cache.forget("a")
    assert (cache.get("a"), cache.get("b"), len(cache)) == (None, 1, 2)
    cache.forget_all()
    assert (cache.get("b"), len(cache)) == (None, 0)


@given(st.integers(1, 6), st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60))
def test_what_was_used_since_it_was_half_full_outlives_what_was_not(
    size: int, uses: list[tuple[bool, int]]
) -> None:
    """Against a model that is nothing but an order of uses."""
    cache = BoundedCache[int, int](size)
    order: OrderedDict[int, int] = OrderedDict()
    for is_read, key in uses:
        if is_read:
            assert cache.get(key) == order.get(key)
            if key in order and len(order) * 2 > size:
                order.move_to_end(key)
        else:
            cache.put(key, key)
            order[key] = key
            order.move_to_end(key)
            if len(order) > size:
                order.popitem(last=False)
    assert len(cache) == len(order)
