"""GET /project: which project a credential opens, what the server offers, and which database it is."""

from tests.contract.servers import ChatApi

PROJECT = "/api/v1/project"


async def test_key_and_token_read_the_same_project(api: ChatApi) -> None:
    """Its name, an epoch, what is offered, and limits that hold."""
    user = await api.user()
    of_key = (await api.send("GET", PROJECT)).json()
    assert set(of_key) == {"id", "name", "epoch", "features", "limits"}
    assert of_key["id"] == api.pid
    assert of_key["epoch"]
    assert (await api.as_user(await api.token(user), "GET", PROJECT)).json() == of_key
    limits = of_key["limits"]
    room = await api.room(user)
    assert (await api.say(room, user, "x" * limits["content"]))["seq"] == 1
    path = f"/api/v1/projects/{{pid}}/rooms/{room['id']}/messages"
    long = {"user_id": user["id"], "content": "x" * (limits["content"] + 1)}
    assert (await api.send("POST", path, json=long)).status_code == 400
    for limit, status in ((limits["page"], 200), (limits["page"] + 1, 400)):
        assert (await api.send("GET", f"{path}?limit={limit}")).status_code == status
