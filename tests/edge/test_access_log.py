"""The access log of a refused request has its code and its user."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.edge.programs import chat_broker_server
from tests.programs import Program, running_broker


def lines_of(program: Program) -> dict[str, dict[str, Any]]:
    """The lines of the access log by request id."""
    lines = [json.loads(line) for line in program.log().splitlines() if line.startswith("{")]
    return {one["request_id"]: one for one in lines if one.get("event") == "request"}


@pytest.mark.parametrize("fast_path", ["on", "off"])
async def test_the_broker_names_the_code_and_the_chat_user(tmp_path: Path, fast_path: str) -> None:
    """On the fast path and over ASGI. An invalid credential's reason is logged, but not sent."""
    async with (
        running_broker(tmp_path, FAST_PATH=fast_path, LOG_FORMAT="json") as program,
        httpx.AsyncClient(base_url=program.url, trust_env=False) as http,
    ):
        session = (await http.post("/dev/login", json={"username": "alice"})).json()["token"]
        http.cookies.clear()
        signed_in = {"authorization": f"Bearer {session}"}
        me = (await http.get("/chat/me", headers={**signed_in, "x-request-id": "good-one"})).json()
        bad = {"authorization": "Bearer dev_alice.1.forged"}
        hot, cold = "/chat/rooms/nope/messages", "/chat/rooms/nope/members"
        for path in (hot, cold):
            for name, headers in (("known", signed_in), ("bad", bad), ("nobody", {})):
                request_id = f"{name}-{path.rpartition('/')[2]}"
                answer = await http.get(path, headers={**headers, "x-request-id": request_id})
                assert "reason" not in answer.json()
        await program.stop()
    lines = lines_of(program)
    assert not {"code", "user_id", "reason"} & set(lines["good-one"])
    for path in ("messages", "members"):
        known, refused, nobody = (lines[f"{name}-{path}"] for name in ("known", "bad", "nobody"))
        assert (known["status"], known["code"]) == (404, "room_not_found")
        assert known["user_id"] == me["id"]
        assert (refused["code"], "user_id" in refused) == ("invalid_credentials", False)
        assert refused["reason"]
        assert (nobody["code"], "user_id" in nobody) == ("authentication_required", False)


async def test_the_chat_api_names_the_code_and_the_user(tmp_path: Path) -> None:
    """Requests with a user's token have a user id; requests with the API key have none."""
    async with (
        chat_broker_server(tmp_path) as edge,
        httpx.AsyncClient(base_url=edge.program.url, trust_env=False) as http,
    ):
        draft = {"username": "alice", "external_user_id": "alice"}
        user = (await http.post(edge.post_path, json=draft, headers=edge.headers)).json()
        path = f"{edge.post_path}/{user['id']}/token"
        token = (await http.post(path, headers=edge.headers)).json()["token"]
        room = edge.post_path.replace("/users", "/rooms/nope")
        for name, headers in (
            ("as-the-user", {"authorization": f"Bearer {token}"}),
            ("as-the-key", edge.headers),
            ("as-nobody", {}),
        ):
            await http.get(room, headers={**headers, "x-request-id": name})
        await http.get("/readyz", headers={"x-request-id": "good-one"})
        await edge.program.stop()
    lines = lines_of(edge.program)
    assert (lines["as-the-user"]["code"], lines["as-the-user"]["user_id"]) == (
        "room_not_found",
        user["id"],
    )
    assert (lines["as-the-key"]["code"], "user_id" in lines["as-the-key"]) == (
        "room_not_found",
        False,
    )
    assert lines["as-nobody"]["code"] == "authentication_required"
    assert "code" not in lines["good-one"]
