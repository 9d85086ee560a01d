"""The SDK iterates over lists of the Chat API while rows are created and deleted."""

from chat_broker_sdk import AsyncChatClient, Request, Response
from tests.contract.servers import ChatApi


class Over:
    """The SDK's requests, over the client the other contract tests use."""

    def __init__(self, api: ChatApi) -> None:
        self._api = api

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam's argument
        path = "/api/v1/" + request.url.partition("/api/v1/")[2]
        answer = await self._api.http.request(
            request.method, path, headers=dict(request.headers), content=request.body
        )
        return Response(answer.status_code, list(answer.headers.items()), answer.content)

    async def aclose(self) -> None:
        pass


async def test_what_stays_is_walked_once_while_others_are_deleted_and_made(api: ChatApi) -> None:
    """Users, a member's rooms, and members: of a list of three pages, the first rows go while it is walked."""
    client = AsyncChatClient("http://localhost", api_key=api.api_key, transport=Over(api))
    owner = await api.user("owner")
    users = [await api.user(f"u{n}") for n in range(50)]
    rooms = [await api.room(owner) for _ in range(50)]
    team = await api.room(owner, *users)

    members = []
    async for member in client.rooms.iterate_members(team["id"], limit=20):
        members.append(member.user_id)
        if len(members) in {5, 30}:
            for user_id in members[:5]:
                await client.rooms.remove_member(team["id"], user_id)
            await api.user("late")
    assert sorted(members) == sorted([owner["id"], *(user["id"] for user in users)])

    walked = []
    async for room in client.rooms.iterate(member_id=owner["id"], limit=20):
        walked.append(room.id)
        if room.id != team["id"]:
            await client.rooms.delete(room.id)
            if len(walked) == 30:
                await api.room(owner)
    assert len(walked) == len(set(walked))
    assert {room["id"] for room in rooms} <= set(walked)

    found = []
    async for user in client.users.iterate(limit=20):
        found.append(user.id)
        if user.id != owner["id"]:
            await client.users.delete(user.id)
    assert len(found) == len(set(found))
    assert {user["id"] for user in users} <= set(found)
