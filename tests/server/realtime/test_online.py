"""Who is online, on nodes whose messages get lost; and what is told at most so often. Without sockets."""

import random
from typing import Any

from chat_broker_server.cluster.nodes import OnlineChange, UsersOnline
from chat_broker_server.realtime.connections import UserKey
from chat_broker_server.realtime.online import GRACE, OnlineUsers
from chat_broker_server.realtime.throttle import Throttle
from tests.server.realtime.manual_clock import ManualClock

USERS = [("p", f"user{number}") for number in range(6)]


class Node:
    """A node's view, and what it told."""

    def __init__(self, name: str, clock: ManualClock) -> None:
        self.name = name
        self.others: list[Node] = []
        self.loses = 0.0
        self.chance = random.Random(name)
        self.told: list[tuple[UserKey, bool]] = []
        self.written: list[UserKey] = []
        self.users = OnlineUsers(
            clock,
            self.send,
            lambda user, online, _: self.told.append((user, online)),
            self.written.extend,
        )

    def send(self, message: OnlineChange | UsersOnline) -> None:
        for other in self.others:
            if self.chance.random() < self.loses:
                continue
            if isinstance(message, OnlineChange):
                other.users.update_node(self.name, message)
            else:
                other.users.replace_part(self.name, message)


def cluster(count: int) -> tuple[list[Node], ManualClock]:
    clock = ManualClock()
    nodes = [Node(f"node{number}", clock) for number in range(count)]
    for node in nodes:
        node.others = [other for other in nodes if other is not node]
    return nodes, clock


def test_the_node_of_the_last_socket_writes_when_a_user_was_seen() -> None:
    (one, two), clock = cluster(2)
    user = USERS[0]
    one.users.came(user)
    two.users.came(user)
    one.users.went(user)
    clock.advance(2 * GRACE)
    assert one.told == two.told == [(user, True)]
    two.users.went(user)
    clock.advance(GRACE)
    assert one.told == two.told == [(user, True), (user, False)]
    assert (one.written, two.written) == ([], [user])


def test_the_users_of_a_dead_node_go_and_one_node_writes_it() -> None:
    (one, two, three), clock = cluster(3)
    for user in USERS[:3]:
        one.users.came(user)
    two.users.came(USERS[0])
    for node, writes in ((two, True), (three, False)):
        node.users.remove_node("node0", writes=writes)
    clock.advance(GRACE)
    for node in (two, three):
        gone = [user for user, online in node.told if not online]
        assert gone == USERS[1:3]
        assert node.users.is_online(USERS[0])
    assert (two.written, three.written) == (USERS[1:3], [])


def test_what_was_lost_is_learnt_from_what_is_repeated() -> None:
    """Whatever comes and goes meanwhile, in any order, on three nodes."""
    for seed in range(50):
        nodes, clock = cluster(3)
        chance = random.Random(seed)
        here: dict[str, set[UserKey]] = {node.name: set() for node in nodes}
        for node in nodes:
            node.loses = 0.5
        for _ in range(60):
            node, user = chance.choice(nodes), chance.choice(USERS)
            if user in here[node.name]:
                here[node.name].discard(user)
                node.users.went(user)
            else:
                here[node.name].add(user)
                node.users.came(user)
            clock.advance(chance.random() * 5)
        for node in nodes:
            node.loses = 0
            for _ in range(8):
                node.users.announce()
        clock.advance(2 * GRACE)
        online = set().union(*here.values())
        for node in nodes:
            assert {user for user in USERS if node.users.is_online(user)} == online, seed
            last = dict(node.told)
            assert {user for user in USERS if last.get(user)} == online, seed


def test_a_state_is_delivered_at_once_and_then_the_newest_after_a_pause() -> None:
    clock, told = ManualClock(), list[tuple[str, Any]]()
    throttle = Throttle[str, int](
        clock,
        2.0,
        lambda key, state: told.append((key, state)),
        lambda last, new: None if new <= last else new,
    )
    for state in (1, 2, 3, 2):
        throttle.put("a", state)
    throttle.put("b", 7)
    assert told == [("a", 1), ("b", 7)]
    clock.advance(2)
    assert told[2:] == [("a", 3)]
    throttle.put("a", 4)
    clock.advance(1.9)
    assert len(told) == 3
    clock.advance(0.1)
    assert told[3:] == [("a", 4)]
    clock.advance(2)
    throttle.put("a", 1)
    assert told[4:] == [("a", 1)]
