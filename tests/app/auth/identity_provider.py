"""Starts panva's oidc-provider, an identity provider written independently of this project."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.programs import ROOT, clean_environment, free_port

SCRIPT = ROOT / "tests" / "e2e" / "identity-provider.mjs"
CLIENT_ID, CLIENT_SECRET = "broker", "broker-secret/of:broker"
AUDIENCE = "https://chat.example.com"


class IdentityProvider:
    """A running identity provider, whose keys, tokens and availability tests can change."""

    def __init__(self, port: int, http: httpx.AsyncClient) -> None:
        self.port = port
        self.issuer = f"http://127.0.0.1:{port}"
        self._http = http
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            "node",
            str(SCRIPT),
            str(self.port),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=clean_environment({}),
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            while not (await self._process.stdout.readline()).startswith(b"ready"):
                assert self._process.returncode is None

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.communicate()

    async def token(self, sub: str, format: str = "jwt", **more: Any) -> str:  # noqa: A002
        return str((await self._control("token", sub=sub, format=format, **more))["token"])

    async def rotate(self, *, publish_first: bool = False) -> None:
        await self._control("rotate", publish_first=publish_first)

    async def drop_keys(self) -> None:
        """Replace all keys at once."""
        await self._control("drop")

    async def hits(self) -> dict[str, int]:
        return await self._control("hits")

    async def revoke(self, token: str) -> None:
        answer = await self._http.post(
            f"{self.issuer}/token/revocation", data={"token": token}, auth=("app", "app-secret")
        )
        assert answer.status_code == 200

    async def _control(self, lever: str, **options: Any) -> dict[str, Any]:
        answer = await self._http.post(f"{self.issuer}/control/{lever}", json=options)
        assert answer.status_code == 200, answer.text
        return answer.json()


@asynccontextmanager
async def identity_provider() -> AsyncIterator[IdentityProvider]:
    """An identity provider on a free port, until the block ends."""
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        provider = IdentityProvider(free_port(), http)
        try:
            await provider.start()
            yield provider
        finally:
            await provider.stop()
