"""Signed tokens in compact form (RFC 7515, RFC 8037), read strictly.

A key has one algorithm. `kid` names the key; a header with other members than `alg`, `kid` and `typ` is refused.
Base64url must be canonical, so that a token cannot be written in two ways.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from chat_broker_kit import strict_json
from chat_broker_kit.base64url import NotBase64Url, decode, encode
from chat_broker_server.settings import Algorithm

MAX_LENGTH = 8192
SIGNATURE = 64  # bytes, of Ed25519 and of P-256

_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class BadToken(ValueError):  # noqa: N818
    """Not a valid token. The text says why and does not contain the token."""


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    alg: str
    kid: str
    typ: str


class Crypto(Protocol):
    """A key with its algorithm."""

    def sign(self, data: bytes) -> bytes:
        """The signature in the format of RFC 7518."""
        ...

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Whether the signature is valid for *data*."""
        ...

    def public_jwk(self) -> dict[str, str] | None:
        """The public half as JWK members; None for a shared secret."""
        ...

    def private_text(self) -> str:
        """The private key as text, to be stored. A secret."""
        ...


@dataclass(frozen=True)
class Ed25519:
    """EdDSA over Curve25519. libsodium signs, because OpenSSL takes half as long again."""

    key: ed25519.Ed25519PrivateKey = field(repr=False)
    sign: Callable[[bytes], bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sign", _signer(self.key))

    def verify(self, data: bytes, signature: bytes) -> bool:
        try:
            self.key.public_key().verify(signature, data)
        except InvalidSignature:
            return False
        return True

    def public_jwk(self) -> dict[str, str] | None:
        raw = self.key.public_key().public_bytes_raw()
        return {"kty": "OKP", "crv": "Ed25519", "x": encode(raw).decode()}

    def private_text(self) -> str:
        return _pem(self.key)


@dataclass(frozen=True)
class Es256:
    """ECDSA over P-256 with SHA-256."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)

    def sign(self, data: bytes) -> bytes:
        r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def verify(self, data: bytes, signature: bytes) -> bool:
        if len(signature) != SIGNATURE:
            return False
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        try:
            self.key.public_key().verify(
                encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256())
            )
        except (InvalidSignature, ValueError):
            return False
        return True

    def public_jwk(self) -> dict[str, str] | None:
        numbers = self.key.public_key().public_numbers()
        x, y = (encode(n.to_bytes(32, "big")).decode() for n in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y}

    def private_text(self) -> str:
        return _pem(self.key)


@dataclass(frozen=True)
class Hs256:
    """HMAC with SHA-256. The key that verifies also signs, so it is never published."""

    key: bytes = field(repr=False)

    def sign(self, data: bytes) -> bytes:
        return hmac.digest(self.key, data, hashlib.sha256)

    def verify(self, data: bytes, signature: bytes) -> bool:
        return hmac.compare_digest(self.sign(data), signature)

    def public_jwk(self) -> dict[str, str] | None:
        return None

    def private_text(self) -> str:
        return encode(self.key).decode()


def generate(algorithm: Algorithm) -> Crypto:
    match algorithm:
        case "EdDSA":
            return Ed25519(ed25519.Ed25519PrivateKey.generate())
        case "ES256":
            return Es256(ec.generate_private_key(ec.SECP256R1()))
        case "HS256":
            return Hs256(secrets.token_bytes(32))


def load(algorithm: str, private: str) -> Crypto:
    """Load the text of `private_text`. Raises ValueError for a key of another algorithm."""
    if algorithm == "HS256":
        return Hs256(decode(private.encode()))
    key = serialization.load_pem_private_key(private.encode(), password=None)
    if algorithm == "EdDSA" and isinstance(key, ed25519.Ed25519PrivateKey):
        return Ed25519(key)
    if algorithm == "ES256" and isinstance(key, ec.EllipticCurvePrivateKey):
        return Es256(key)
    raise ValueError(f"a stored signing key is not an {algorithm} key")


def split(token: str) -> tuple[Header, bytes, bytes, bytes]:
    """Split a token into header, payload, signed data and signature. None of them is verified. Raises BadToken."""
    if len(token) > MAX_LENGTH or not _SHAPE.fullmatch(token):
        raise BadToken("not three parts of base64url")
    head, body, signature = token.encode().split(b".")
    try:
        header: Any = strict_json.parse(decode(head))
        return msgspec.convert(header, Header), decode(body), head + b"." + body, decode(signature)
    except NotBase64Url as error:
        raise BadToken(str(error)) from None
    except (strict_json.NotStrictJson, msgspec.ValidationError):
        raise BadToken("the header is not one of ours") from None


def _signer(key: ed25519.Ed25519PrivateKey) -> Callable[[bytes], bytes]:
    """A function that signs with *key*."""
    _, secret = crypto_sign_seed_keypair(key.private_bytes_raw())
    return lambda data: crypto_sign(data, secret)[:SIGNATURE]


def _pem(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
