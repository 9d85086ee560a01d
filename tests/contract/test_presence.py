"""Who is online, asked with the API key."""

from tests.contract.servers import ChatApi, of_user, refused

PRESENCE = "/api/v1/projects/{pid}/presence"


async def test_presence_is_answered_for_users_that_there_are(api: ChatApi) -> None:
    """In the order in which they were asked for, each once. Who hides is unknown."""
    alice, bob, carol = [await api.user() for _ in range(3)]
    await api.room(alice, bob)
    answer = await api.send("PATCH", f"{of_user(bob)}/settings", json={"presence": "hidden"})
    assert answer.status_code == 200, answer.text
    ids = ",".join(("unknown", bob["id"], alice["id"], carol["id"], bob["id"]))
    shown = [
        {"user_id": bob["id"], "online": None},
        {"user_id": alice["id"], "online": False},
        {"user_id": carol["id"], "online": False},
    ]
    answer = await api.send("GET", f"{PRESENCE}?ids={ids}")
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"items": shown}
    answer = await api.send("GET", f"{PRESENCE}?ids={ids}&member_id={alice['id']}")
    assert answer.json() == {"items": shown[:2]}
    many = ",".join([f"u{number}" for number in range(99)] + [alice["id"]])
    assert len((await api.send("GET", f"{PRESENCE}?ids={many}")).json()["items"]) == 1


async def test_a_bad_question_is_refused(api: ChatApi) -> None:
    alice = await api.user()
    many = ",".join(f"u{number}" for number in range(101))
    for query in ("", "?ids=", "?ids=a,,b", "?ids=a%20b", f"?ids={many}", "?ids=a&page=1"):
        refused(await api.send("GET", f"{PRESENCE}{query}"), 400, "invalid_input")
    answer = await api.as_user(await api.token(alice), "GET", f"{PRESENCE}?ids=a")
    refused(answer, 403, "api_key_required")
