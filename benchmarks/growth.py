"""The cost of equal requests on a small database and on a big one."""

import asyncio
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from scripts.seed import Seeded, Sizes, seed

from . import targets
from .compare import Ask, Contender, Lineup, Table, Work, compare, send
from .ground import NotAvailable, Running, open_ground

SMALL = Sizes(users=1000, messages=1000, members=200, joined=10, changes=1000)
SMALL_ONE, BIG_ONE = "small", "big"


def calls(made: Seeded, running: Running) -> dict[str, Ask]:
    """The calls whose cost should stay flat, each with the name it has in the report."""
    project = f"/api/v1/projects/{made.project_id}"
    room = f"{project}/rooms/{made.room_id}"
    key = made.api_key
    middle = made.sizes.messages // 2
    status, body = send(running.port, _mint(project, made))
    if status != 200:
        raise NotAvailable(f"no token could be minted: {status} {body[:200]!r}")
    return {
        "mint": _mint(project, made),
        "verify": Ask("GET", "/api/v1/auth/verify", json.loads(body)["token"]),
        "find a user": Ask("GET", f"{project}/users?external_user_id=seed7", api_key=key),
        "list users": Ask("GET", f"{project}/users?limit=10", api_key=key),
        "rooms of somebody in one": Ask(
            "GET", f"{project}/rooms?member_id={made.member_id}&limit=10", api_key=key
        ),
        "rooms of somebody in 10 → 1,000": Ask(
            "GET", f"{project}/rooms?member_id={made.user_id}&limit=10", api_key=key
        ),
        "messages, page 1": Ask("GET", f"{room}/messages?limit=50", api_key=key),
        "messages, cursor in the middle": Ask(
            "GET", f"{room}/messages?before={middle}&limit=50", api_key=key
        ),
        "members, page 1": Ask("GET", f"{room}/members?limit=50", api_key=key),
        "mark read": Ask(
            "PUT",
            f"{room}/read",
            body=json.dumps({"user_id": made.user_id, "seq": middle}).encode(),
            api_key=key,
        ),
        **_kept_up_to_date(made, project),
    }


def _kept_up_to_date(made: Seeded, project: str) -> dict[str, Ask]:
    """What a client asks that keeps copies of its rooms: a join, what it lacks of one room, its list, its totals."""
    room, key = f"{project}/rooms/{made.room_id}", made.api_key
    member, user = f"{project}/users/{made.member_id}", f"{project}/users/{made.user_id}"
    # The client lacks the last ten changes, and one message.
    since_rev = made.sizes.changes - 10
    have = {made.room_id: [made.sizes.messages - 1, since_rev, 0]}
    return {
        "join as a member": Ask(
            "POST",
            f"{room}/join",
            body=json.dumps({"user_id": made.member_id}).encode(),
            api_key=key,
        ),
        "changes, the last ten": Ask("GET", f"{room}/changes?since_rev={since_rev}", api_key=key),
        "delta of one room": Ask(
            "POST", f"{member}/sync", body=json.dumps({"have": have}).encode(), api_key=key
        ),
        "list by activity of somebody in one": Ask(
            "GET", f"{project}/rooms?member_id={made.member_id}&sort=activity&limit=10", api_key=key
        ),
        "list by activity of somebody in 10 → 1,000": Ask(
            "GET", f"{project}/rooms?member_id={made.user_id}&sort=activity&limit=10", api_key=key
        ),
        "totals of somebody in one": Ask("GET", f"{member}/unread", api_key=key),
        "totals of somebody in 10 → 1,000": Ask("GET", f"{user}/unread", api_key=key),
    }


def _mint(project: str, made: Seeded) -> Ask:
    return Ask("POST", f"{project}/users/{made.other_id}/token", body=b"{}", api_key=made.api_key)


def tables(users: int, messages: int, *, say: Callable[[str], None]) -> list[Table]:
    """One table a call: its cost on the small database, and on one with *users* and *messages*."""
    big = Sizes(
        users=users,
        messages=messages,
        members=min(users, 10_000),
        joined=1000,
        changes=min(messages, 100_000),
    )
    with tempfile.TemporaryDirectory() as folder, open_ground(Path(folder)) as ground:
        lineup = Lineup(ground)
        contenders = []
        asks: dict[int, dict[str, Ask]] = {}
        try:
            for name, sizes in ((SMALL_ONE, SMALL), (BIG_ONE, big)):
                url = f"sqlite:///{folder}/{name}.db"
                made = asyncio.run(seed(url, sizes))
                say(f"  {name}: {asdict(sizes)} made in {made.seconds} s")
                contender = Contender(
                    name, targets.chat_server_on(url, made.api_key), 1.0, checks=False
                )
                running = lineup.get(contender.start)
                asks[running.port] = calls(made, running)
                contenders.append(contender)
        except NotAvailable as reason:
            return [
                Table(
                    "growth", "Growth", "CPU µs per request", left_out={"chat-server": str(reason)}
                )
            ]
        found = []
        for call in next(iter(asks.values())):
            say(f" {call}")
            title = f"{call}: {SMALL.users:,} → {users:,} users, room of {SMALL.messages:,} → {messages:,}"
            work = Work(
                f"growth, {call}",
                title,
                contenders,
                lambda _, running, call=call: [asks[running.port][call]],  # type: ignore[misc]
                200,
                lambda _: True,
            )
            found.append(compare(work, lineup, rounds=7, seconds=0.5, say=say))
        return found
