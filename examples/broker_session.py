"""The session that the examples share: an app user who is signed in to the broker of `make run`."""

from types import TracebackType
from typing import Any, Self

import httpx

from chat_broker_sdk import AsyncChatClient, Dialect


class BrokerSession:
    """One app user at the broker: asks for chat tokens, and finds rooms by their names."""

    def __init__(self, broker_url: str, username: str) -> None:
        self._username = username
        self._http = httpx.AsyncClient(base_url=broker_url, trust_env=False)

    async def __aenter__(self) -> Self:
        """Sign in. In production the app's own sign-in takes the place of this call."""
        answer = await self._http.post("/dev/login", json={"username": self._username})
        answer.raise_for_status()
        self._http.headers["Authorization"] = f"Bearer {answer.json()['token']}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """One REST call through the broker, as this user; raises httpx.HTTPStatusError."""
        answer = await self._http.request(method, path, json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    async def token(self) -> str:
        """A fresh chat token. The SDK asks for one at each connect."""
        minted = await self.call("POST", "/chat/token")
        token: str = minted["token"]
        return token

    async def chat(self) -> AsyncChatClient:
        """A client of the Chat API that speaks as this user, with a token and without any key."""
        minted = await self.call("POST", "/chat/token")
        server = minted["server"]
        dialect = Dialect(socket_path=server["socket_path"])
        return AsyncChatClient(server["url"], jwt_token=minted["token"], dialect=dialect)

    async def room(self, name: str) -> str:
        """The id of the open room called *name*; created if there is none."""
        page, pages = 1, 1
        while page <= pages:
            found = await self.call("GET", f"/chat/rooms?scope=open&limit=200&page={page}")
            for room in found["items"]:
                if room["name"] == name:
                    await self.call("POST", f"/chat/rooms/{room['id']}/join")
                    return str(room["id"])
            page, pages = page + 1, found["totalPages"]
        created = await self.call("POST", "/chat/rooms", {"name": name})
        return str(created["id"])
