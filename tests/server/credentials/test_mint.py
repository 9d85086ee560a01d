"""A token for the host that opened the server, beside the one over REST: one rule, one answer, one refusal."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from chat_broker_server import Settings, open_server
from chat_broker_server.errors import ChatError
from tests.contract.servers import of_user
from tests.server.credentials.test_tokens import opened as parts_of
from tests.server.opening import opened

EACH_TIME_ANOTHER = {"sid", "jti", "iat", "exp"}


async def test_the_host_gets_what_the_route_answers(tmp_path: Path) -> None:
    """Value by value, in the token too; and each token is a new one."""
    async with opened(tmp_path) as (server, api):
        user = await api.user("alice", display_name="Alice", metadata={"team": "blue"})
        over_rest = await api.send("POST", f"{of_user(user)}/token", json={"expires_in": 77})
        answer = over_rest.json()
        made = server.mint(user["id"], 77)
        assert made is not None
        assert (made.token != answer["token"], made.expires_in) == (True, answer["expires_in"])
        told = msgspec.to_builtins(made.user)
        assert told == {name: answer["user"][name] for name in told}
        assert {"id", "external_user_id", "username", "display_name"} <= told.keys()
        (header, claims), (their_header, theirs) = parts_of(made.token), parts_of(answer["token"])
        assert header == their_header
        assert (claims["sid"], claims["exp"]) == (made.session_id, made.expires_at)
        assert {name: claims[name] for name in claims.keys() - EACH_TIME_ANOTHER} == {
            name: theirs[name] for name in theirs.keys() - EACH_TIME_ANOTHER
        }
        assert made.token not in repr(made)


@pytest.mark.parametrize("expires_in", [0, -1, 3601, True, "60"])
async def test_the_host_may_wish_what_the_route_allows(tmp_path: Path, expires_in: Any) -> None:
    async with opened(tmp_path) as (server, api):
        user = await api.user("alice")
        refused = await api.send("POST", f"{of_user(user)}/token", json={"expires_in": expires_in})
        with pytest.raises(ChatError) as said:
            server.mint(user["id"], expires_in)
        assert (said.value.status, said.value.code) == (400, refused.json()["code"])


async def test_nobody_gets_a_token_from_the_host_whom_the_route_refuses(tmp_path: Path) -> None:
    """Suspended, deleted, unknown, no id at all."""
    async with opened(tmp_path) as (server, api):
        suspended, deleted = await api.user("alice"), await api.user("bob")
        await api.send("PATCH", of_user(suspended), json={"status": "suspended"})
        await api.send("DELETE", of_user(deleted))
        for user_id in (suspended["id"], deleted["id"], "nobody", "not~an~id"):
            refused = await api.send("POST", f"{of_user({'id': user_id})}/token")
            with pytest.raises(ChatError) as said:
                server.mint(user_id, 60)
            assert (said.value.status, said.value.code) == (
                refused.status_code,
                refused.json()["code"],
            )


async def test_without_a_project_for_the_host_there_are_no_tokens_for_it(tmp_path: Path) -> None:
    async with open_server(Settings(data_dir=tmp_path)) as server:
        with pytest.raises(ChatError, match="authentication_required"):
            server.mint("somebody", 60)
