"""Messages in order, each once: pure, and under every order of arrival."""

from hypothesis import given
from hypothesis import strategies as st

from chat_broker_sdk import Message
from chat_broker_sdk._realtime.room_feed import RoomFeed


def message(seq: int | None) -> Message:
    return Message(id=f"m{seq}", content="x", seq=seq)


def seqs(messages: list[Message]) -> list[int | None]:
    return [each.seq for each in messages]


def test_live_messages_wait_for_the_missed_ones() -> None:
    feed = RoomFeed(3)
    assert feed.live(message(6)) == []
    assert seqs(feed.joined(6, [message(4), message(5), message(6)])) == [4, 5, 6]
    assert seqs(feed.live(message(7))) == [7]
    assert feed.live(message(7)) == []
    assert not feed.has_gap, "a repeated message is not kept waiting for one before it"


def test_a_first_join_starts_at_the_present() -> None:
    feed = RoomFeed(None)
    assert feed.joined(10, []) == []
    assert seqs(feed.live(message(11))) == [11]
    assert feed.live(message(9)) == []


def test_a_message_that_overtakes_the_answer_to_the_join_is_not_lost() -> None:
    feed = RoomFeed(None)
    assert feed.live(message(5)) == []
    assert seqs(feed.joined(5, [])) == [5]


def test_a_gap_holds_back_until_it_is_filled_or_given_up() -> None:
    feed = RoomFeed(1)
    feed.joined(1, [])
    assert feed.live(message(3)) == []
    assert feed.has_gap
    assert seqs(feed.live(message(2))) == [2, 3]
    assert not feed.has_gap
    assert feed.live(message(6)) == []
    assert feed.live(message(5)) == []
    assert seqs(feed.give_up_gap()) == [5, 6]
    assert feed.last == 6


def test_a_server_without_seq_is_passed_through() -> None:
    feed = RoomFeed(None)
    assert seqs(feed.live(message(None))) == [None]
    assert feed.joined(None, []) == []
    assert seqs(feed.live(message(4))) == [4]


def test_what_there_is_no_room_for_is_left_to_the_next_join() -> None:
    feed = RoomFeed(1)
    assert feed.is_behind
    feed.joined(1, [])
    assert not feed.is_behind
    assert feed.live(message(2), defer=True) == []
    assert feed.is_behind
    assert feed.live(message(3)) == [], "it is held back: 2 comes first"
    assert seqs(feed.joined(3, [message(2)])) == [2, 3]
    assert not feed.is_behind


def test_only_so_many_are_held_back_and_the_rest_is_missed_in_turn() -> None:
    feed = RoomFeed(0, max_held=2)
    for seq in (3, 4, 5, 6):
        feed.live(message(seq))
    assert seqs(feed.joined(6, [message(1), message(2)])) == [1, 2, 3, 4]
    assert feed.has_gap
    assert seqs(feed.joined(6, [message(5), message(6)])) == [5, 6]
    for seq in (9, 10):
        feed.live(message(seq))
    assert seqs(feed.live(message(7))) == [7], "the next one is always taken"
    assert seqs(feed.live(message(8))) == [8, 9, 10]


@given(st.data())
def test_whatever_order_and_however_often_each_comes_once_in_order(data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 12))
    since = data.draw(st.integers(0, total))
    feed, shown = RoomFeed(since), []
    live = data.draw(st.lists(st.integers(1, total), max_size=30))
    split = data.draw(st.integers(0, len(live)))
    for seq in live[:split]:
        shown += feed.live(message(seq))
    shown += feed.joined(total, [message(seq) for seq in range(since + 1, total + 1)])
    for seq in live[split:]:
        shown += feed.live(message(seq))
    assert seqs(shown) == list(range(since + 1, total + 1))
