"""Messages in order, each once: pure, and under every order of arrival."""

from hypothesis import given
from hypothesis import strategies as st

from chat_broker_sdk import Change, Member, Message, Room
from chat_broker_sdk._realtime.room_feed import RoomChange, RoomFeed, missed_change


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


# -- changes --------------------------------------------------------------------------------------


def edited(seq: int, rev: int) -> RoomChange:
    value = Message(id=f"m{seq}", content=f"rev {rev}", seq=seq, rev=rev)
    return RoomChange(rev, "message_updated", value)


def renamed(rev: int) -> RoomChange:
    return RoomChange(rev, "room_updated", Room(id="r", name=f"rev {rev}", rev=rev))


def revs(changes: list[RoomChange]) -> list[int]:
    return [change.rev for change in changes]


def joined_feed(seq: int, rev: int) -> RoomFeed:
    feed = RoomFeed(None)
    feed.joined(seq, [])
    feed.joined_changes(rev, [], complete=True)
    return feed


def test_changes_come_once_in_order_of_rev() -> None:
    feed = joined_feed(5, 3)
    assert revs(feed.change(edited(2, 3))) == [], "the join has told it"
    assert revs(feed.change(edited(2, 4))) == [4]
    assert revs(feed.change(renamed(9))) == [9], "numbers may jump"
    assert feed.change(renamed(9)) == []
    assert feed.rev == 9


def test_live_changes_wait_for_the_missed_ones() -> None:
    feed = joined_feed(5, 3)
    feed.disconnected()
    assert feed.change(renamed(6)) == []
    assert feed.change(edited(1, 8)) == []
    feed.joined(5, [])
    assert revs(feed.joined_changes(7, [edited(2, 5), renamed(6)], complete=True)) == [5, 6, 8]
    assert feed.rev == 8


def test_an_incomplete_answer_is_asked_on_from_its_last_change() -> None:
    feed = joined_feed(5, 0)
    feed.disconnected()
    feed.joined(5, [])
    assert revs(feed.joined_changes(9, [edited(1, 2), edited(2, 4)], complete=False)) == [2, 4]
    assert (feed.rev, feed.is_behind) == (4, True)
    feed.joined(5, [])
    assert revs(feed.joined_changes(9, [renamed(9)], complete=True)) == [9]
    assert not feed.is_behind


def test_a_state_that_came_with_the_missed_messages_is_not_told_again() -> None:
    """Both lists were too long: the next answer tells a change of a message that came as it is now."""
    feed = joined_feed(1, 0)
    feed.disconnected()
    state = Message(id="m2", content="rev 3", seq=2, rev=3)
    assert [each.content for each in feed.joined(3, [state])] == ["rev 3"]
    assert feed.joined_changes(3, [], complete=False) == []
    assert seqs(feed.joined(3, [message(3)])) == [3]
    assert feed.joined_changes(3, [edited(2, 3)], complete=True) == []
    assert revs(feed.change(edited(2, 4))) == [4]


def test_a_change_of_a_message_that_is_held_back_changes_it_there() -> None:
    feed = joined_feed(1, 0)
    assert feed.live(message(3)) == []
    assert feed.change(edited(3, 1)) == []
    assert [each.content for each in feed.live(message(2))] == ["x", "rev 1"]


def test_a_change_that_there_is_no_room_for_is_left_to_the_next_join() -> None:
    feed = joined_feed(1, 0)
    assert feed.change(renamed(1), defer=True) == []
    assert (feed.rev, feed.is_behind) == (0, True)
    feed.joined(1, [])
    assert revs(feed.joined_changes(1, [renamed(1)], complete=True)) == [1]


def test_only_so_many_changes_are_held_back_and_the_rest_is_asked_for() -> None:
    feed = RoomFeed(1, since_rev=0, max_held=1)
    feed.change(renamed(2))
    feed.change(renamed(3))
    feed.joined(1, [])
    assert revs(feed.joined_changes(1, [renamed(1)], complete=True)) == [1, 2]
    assert feed.has_gap
    feed.give_up_gap()
    assert not feed.is_behind


def test_a_reset_starts_anew() -> None:
    feed = joined_feed(9, 9)
    feed.disconnected()
    feed.live(message(10))
    feed.live(message(4))
    feed.change(renamed(3))
    messages, changes = feed.reset(3, 2)
    assert (seqs(messages), revs(changes)) == ([4], [3])
    assert feed.has_gap, "10 came live, 5 to 9 did not"


def test_a_server_without_revs_is_passed_through() -> None:
    feed = RoomFeed(None)
    feed.joined(1, [])
    assert feed.joined_changes(None, [], complete=True) == []
    assert revs(feed.change(renamed(1))) == [1]
    assert revs(feed.change(renamed(1))) == [1]


def test_what_was_missed_is_told_by_the_ordinary_events() -> None:
    def event(**fields: object) -> str | None:
        told = missed_change(Change(rev=1, **fields), "r")  # type: ignore[arg-type]
        return told and told.event

    gone = Message.from_json(b'{"id":"m","content":"","deleted_at":"2026-01-01T00:00:00Z"}')
    assert event(kind="message", message=message(1)) == "message_updated"
    assert event(kind="message", message=gone) == "message_deleted"
    assert event(kind="room", room=Room(id="r", name="n")) == "room_updated"
    assert event(kind="member", member=Member(user_id="u"), user_id="u") == "member_updated"
    assert event(kind="member", user_id="u") == "user_left"
    assert event(kind="pinned") is None


@given(st.data())
def test_a_copy_equals_the_room_after_any_disconnections(data: st.DataObject) -> None:
    """Messages are posted and edited; answers to joins are short; the client is away at times; little is held back."""
    room: list[int] = []  # of each message, the rev of its last edit
    rev = 0
    changed: dict[int, int] = {}  # seq → rev
    feed = RoomFeed(None, max_held=data.draw(st.sampled_from([1, 2, 1000])))
    feed.joined(0, [])
    feed.joined_changes(0, [], complete=True)
    copy: dict[int, int] = {}
    told: list[int] = []
    connected = True

    def take(messages: list[Message], changes: list[RoomChange]) -> None:
        for each in messages:
            assert each.seq is not None
            assert each.seq not in copy, "each message once"
            assert each.seq == len(copy) + 1, "in order"
            copy[each.seq] = each.rev or 0
        for change in changes:
            assert isinstance(change.value, Message)
            assert change.rev > copy[change.value.seq or 0], "each state once"
            copy[change.value.seq or 0] = change.rev
            told.append(change.rev)

    def state(seq: int) -> Message:
        return Message(id=f"m{seq}", content="x", seq=seq, rev=room[seq - 1] or None)

    def join() -> None:
        last, since = feed.last or 0, feed.rev or 0
        missed = [state(seq) for seq in range(last + 1, len(room) + 1)][:2]
        states = sorted((r, seq) for seq, r in changed.items() if r > since and seq <= last)
        answer = [edited(seq, r) for r, seq in states[:2]]
        more = last + len(missed) < len(room) or len(states) > 2
        messages = feed.joined(len(room), missed)
        take(messages, feed.joined_changes(rev, answer, complete=not more))

    for _ in range(data.draw(st.integers(1, 25))):
        match data.draw(st.sampled_from(["post", "edit", "cut", "come back", "join"])):
            case "post":
                room.append(0)
                if connected:
                    take(feed.live(state(len(room))), [])
            case "edit" if room:
                seq = data.draw(st.integers(1, len(room)))
                rev += 1
                room[seq - 1] = changed[seq] = rev
                if connected:
                    take([], feed.change(edited(seq, rev)))
            case "cut":
                connected = False
                feed.disconnected()
            case "come back":
                connected = True
            case "join" if connected and feed.is_behind:
                join()
    connected = True
    for _ in range(200):
        if not feed.is_behind:
            break
        join()
    assert copy == {seq: room[seq - 1] for seq in range(1, len(room) + 1)}
    assert told == sorted(told), "in order of rev"
