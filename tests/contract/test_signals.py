"""Signals that the API key sends."""

from typing import Any

import pytest

from tests.contract.servers import ChatApi, in_room, of_user, refused


async def test_a_signal_is_accepted_for_a_room_and_for_a_user(api: ChatApi) -> None:
    alice = await api.user()
    room = await api.room(alice)
    for path in (in_room(room), of_user(alice)):
        for body in ({"name": "app.wave", "data": {"x": 1}}, {"name": "wave"}):
            answer = await api.send("POST", f"{path}/signals", json=body)
            assert answer.status_code == 202, answer.text
    for path, code in (
        ("/api/v1/projects/{pid}/rooms/none", "room_not_found"),
        ("/api/v1/projects/{pid}/users/none", "user_not_found"),
    ):
        refused(await api.send("POST", f"{path}/signals", json={"name": "x"}), 404, code)
    token = await api.token(alice)
    for path in (in_room(room), of_user(alice)):
        answer = await api.as_user(token, "POST", f"{path}/signals", json={"name": "x"})
        refused(answer, 403, "api_key_required")


@pytest.mark.parametrize(
    "body",
    [{}, {"name": "A"}, {"name": 1}, {"name": "x", "data": "x" * 1023}, {"name": "x", "y": 1}],
)
async def test_a_bad_signal_is_refused(api: ChatApi, body: Any) -> None:
    alice = await api.user()
    room = await api.room(alice)
    for path in (in_room(room), of_user(alice)):
        refused(await api.send("POST", f"{path}/signals", json=body), 400, "invalid_input")
