"""Signs tokens as an identity provider does, valid and invalid ones."""

import hmac
import json
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from starlette.requests import HTTPConnection

NOW = 1_800_000_000
ISSUER = "https://id.example.com"
AUDIENCE = "chat"
SECRET = "a-shared-secret-of-thirty-two-by"
HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


def b64(data: bytes | str) -> str:
    data = data.encode() if isinstance(data, str) else data
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, size: int | None = None) -> str:
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8))


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a valid token with *changes*; `...` removes a claim."""
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "user-1", "iat": NOW, "exp": NOW + 300}
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


@dataclass
class Signer:
    """One private key, its algorithm and its kid."""

    private: Any
    alg: str
    kid: str | None = "k1"

    @property
    def jwk(self) -> dict[str, Any]:
        common = {"alg": self.alg, "use": "sig"} | ({"kid": self.kid} if self.kid else {})
        public = self.private.public_key()
        match public:
            case rsa.RSAPublicKey():
                numbers = public.public_numbers()
                return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), **common}
            case ec.EllipticCurvePublicKey():
                point, size = public.public_numbers(), (public.key_size + 7) // 8
                curve = {256: "P-256", 384: "P-384", 521: "P-521"}[public.key_size]
                x, y = number(point.x, size), number(point.y, size)
                return {"kty": "EC", "crv": curve, "x": x, "y": y, **common}
        return {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes_raw()), **common}

    @property
    def pem(self) -> str:
        return (
            self.private.public_key()
            .public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            .decode()
        )

    def signature(self, data: bytes, alg: str | None = None) -> bytes:
        alg = alg or self.alg
        match self.private:
            case bytes():
                return hmac.digest(self.private, data, {"HS256": "sha256"}.get(alg, "sha512"))
            case rsa.RSAPrivateKey():
                digest = HASHES[alg[2:]]
                scheme: Any = padding.PKCS1v15()
                if alg.startswith("PS"):
                    scheme = padding.PSS(padding.MGF1(digest), digest.digest_size)
                return self.private.sign(data, scheme, digest)
            case ec.EllipticCurvePrivateKey():
                r, s = decode_dss_signature(self.private.sign(data, ec.ECDSA(HASHES[alg[2:]])))
                size = (self.private.key_size + 7) // 8
                return r.to_bytes(size) + s.to_bytes(size)
        return self.private.sign(data)

    def token(self, payload: Any = None, *, alg: Any = None, **header: Any) -> str:
        """A signed token; *payload* as an object, or as the bytes to sign."""
        head: dict[str, Any] = {"alg": alg or self.alg, "typ": "JWT"}
        if self.kid is not None:
            head["kid"] = self.kid
        head = {name: value for name, value in {**head, **header}.items() if value is not ...}
        body = claims() if payload is None else payload
        return self.raw(json.dumps(head), body if isinstance(body, bytes) else json.dumps(body))

    def raw(self, header: str, payload: str | bytes) -> str:
        """A token of exactly this header and payload."""
        signing_input = f"{b64(header)}.{b64(payload)}"
        return f"{signing_input}.{b64(self.signature(signing_input.encode()))}"


@cache
def rsa_signer(kid: str | None = "k1", alg: str = "RS256", bits: int = 2048) -> Signer:
    return Signer(rsa.generate_private_key(65537, bits), alg, kid)


@cache
def ec_signer(kid: str | None = "k1", alg: str = "ES256") -> Signer:
    curve = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[alg]
    return Signer(ec.generate_private_key(curve), alg, kid)


@cache
def ed_signer(kid: str | None = "k1") -> Signer:
    return Signer(Ed25519PrivateKey.generate(), "EdDSA", kid)


def secret_signer(secret: str | bytes = SECRET) -> Signer:
    return Signer(secret.encode() if isinstance(secret, str) else secret, "HS256", None)


def request(
    *headers: tuple[str, str],
    bearer: str | None = None,
    path: str = "/chat/rooms",
    method: str = "GET",
    peer: str = "127.0.0.1",
) -> HTTPConnection:
    """A request with an ASGI scope like uvicorn's."""
    sent = list(headers)
    if bearer is not None:
        sent.append(("authorization", f"Bearer {bearer}"))
    return HTTPConnection(
        {
            "type": "http",
            "method": method,
            "path": path,
            "scheme": "http",
            "client": (peer, 50000),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in sent],
        }
    )


class Clock:
    """A clock that only the test moves."""

    def __init__(self, at: float = 0.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at
