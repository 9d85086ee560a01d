"""An identity provider as far as its keys go: a key set on a port, and tokens signed by hand."""

import asyncio
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

AUDIENCE = "chat"


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


class SigningKey:
    """One RSA key with its name."""

    def __init__(self, kid: str) -> None:
        self.kid = kid
        self._private = rsa.generate_private_key(65537, 2048)

    @property
    def jwk(self) -> dict[str, str]:
        """The public half, as a key set lists it."""
        public = self._private.public_key().public_numbers()
        modulus = b64(public.n.to_bytes(256))
        return {
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": modulus, "e": "AQAB",
        }  # fmt: skip

    def token(self, issuer: str, sub: str, *, kid: str | None = None, **more: Any) -> str:
        """A token for *sub*, good for an hour."""
        now = int(time.time())
        head = {"alg": "RS256", "typ": "at+jwt", "kid": kid or self.kid}
        claims = {"iss": issuer, "aud": AUDIENCE, "sub": sub, "iat": now, "exp": now + 3600, **more}
        text = ".".join(b64(json.dumps(part).encode()) for part in (head, claims))
        signature = self._private.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{b64(signature)}"


class Provider:
    """Publishes *keys*, whichever they are at the moment, and counts how often it was asked."""

    def __init__(self, *keys: SigningKey) -> None:
        self.keys = list(keys)
        self.asked = 0
        self.issuer = ""

    @property
    def settings(self) -> dict[str, str]:
        """What a broker needs to know of it."""
        return {
            "AUTH": "jwt",
            "AUTH_JWT_ISSUER": self.issuer,
            "AUTH_JWT_AUDIENCE": AUDIENCE,
            "AUTH_JWT_JWKS_URL": f"{self.issuer}/jwks.json",
        }

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One question, whatever it asks."""
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        body = json.dumps({"keys": [key.jwk for key in self.keys]}).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        writer.write(f"{head}\r\nconnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def provider(*keys: SigningKey) -> AsyncIterator[Provider]:
    """A provider on a free port until the block ends."""
    made = Provider(*keys)
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    async with server:
        made.issuer = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield made
