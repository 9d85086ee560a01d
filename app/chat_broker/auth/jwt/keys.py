"""Verification keys, from JWK, PEM or a secret, each bound to the algorithms it may be used with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import HMAC, compare_digest
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from chat_broker_kit import base64url

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192  # verifying gets slower with the square of the size
MIN_SECRET_BYTES = 32
MAX_KID_LENGTH = 128

RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
FAMILIES: dict[str, frozenset[str]] = {
    "oct": frozenset({"HS256"}),
    "RSA": frozenset(RSA_ALGORITHMS),
    "EC": frozenset({"ES256", "ES384", "ES512"}),
    "OKP": frozenset({"EdDSA", "Ed25519"}),
}
PUBLIC_KEY_ALGORITHMS = FAMILIES["RSA"] | FAMILIES["EC"] | FAMILIES["OKP"]

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}
_CURVES: dict[str, tuple[ec.EllipticCurve, str, int]] = {
    # name: curve, its one algorithm, bytes of a coordinate (RFC 7518 section 3.4)
    "P-256": (ec.SECP256R1(), "ES256", 32),
    "P-384": (ec.SECP384R1(), "ES384", 48),
    "P-521": (ec.SECP521R1(), "ES512", 66),
}
# Some providers publish ES512 keys under the name of their curve.
_MISSPELLED = {"ES521": "ES512"}

Check = Callable[[str, bytes, bytes], bool]
"""(algorithm, signing input, signature) → whether the signature is right."""


class UnusableKey(ValueError):  # noqa: N818 - named for what happened
    """The key must not, or cannot, verify a signature. The message says why."""


@dataclass(frozen=True, slots=True)
class Key:
    """A verification key, bound to the algorithms it may be used with.

    `default` is its one algorithm where neither the JWK nor the settings name any.
    """

    kid: str | None
    family: str
    algorithms: frozenset[str]
    default: str
    fingerprint: bytes
    _check: Check = field(repr=False, compare=False)

    def narrowed(self, allowed: frozenset[str] | None) -> "Key | None":
        """This key with *allowed* algorithms only (None: its default one); None if none is left."""
        wanted = frozenset({self.default}) if allowed is None else allowed
        if allowed is None and self.family == "OKP":
            wanted = FAMILIES["OKP"]  # two names of one algorithm (RFC 9864)
        left = self.algorithms & wanted
        if not left:
            return None
        return Key(self.kid, self.family, left, self.default, self.fingerprint, self._check)

    def verifies(self, algorithm: str, signing_input: bytes, signature: bytes) -> bool:
        """Whether *signature* is valid; False too if the key does not have *algorithm*."""
        return algorithm in self.algorithms and self._check(algorithm, signing_input, signature)


def key_from_secret(secret: bytes) -> Key:
    """The HS256 key of a shared secret. Raises UnusableKey below 32 bytes."""
    if len(secret) < MIN_SECRET_BYTES:
        raise UnusableKey(f"the secret is shorter than {MIN_SECRET_BYTES} bytes")

    def check(_: str, signing_input: bytes, signature: bytes) -> bool:
        return compare_digest(HMAC(secret, signing_input, "sha256").digest(), signature)

    fingerprint = sha256(b"oct\0" + secret).digest()
    return Key(None, "oct", FAMILIES["oct"], "HS256", fingerprint, check)


def key_from_pem(pem: str) -> Key:
    """The key of a PEM text (`PUBLIC KEY`, `RSA PUBLIC KEY` or `CERTIFICATE`). Raises UnusableKey."""
    data = pem.strip().replace("\\n", "\n").encode()
    try:
        if b"BEGIN CERTIFICATE" in data:
            from cryptography.x509 import load_pem_x509_certificate  # a certificate is rare

            public: object = load_pem_x509_certificate(data).public_key()
        else:
            public = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableKey("not a PEM public key") from None
    return _of_public_key(public, kid=None, alg=None)


def key_from_jwk(jwk: Mapping[str, Any]) -> Key:
    """The key of one member of a JWK set. Raises UnusableKey, also for a symmetric key."""
    kid = jwk.get("kid")
    if kid is not None and (not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID_LENGTH):
        raise UnusableKey("kid is not a short string")
    if jwk.get("use", "sig") != "sig":
        raise UnusableKey("use is not sig")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise UnusableKey("key_ops do not include verify")
    alg = jwk.get("alg")
    if alg is not None and not isinstance(alg, str):
        raise UnusableKey("alg is not a string")
    try:
        public = _public_numbers(jwk)
    except UnsupportedAlgorithm:
        raise UnusableKey("this kind of key is not supported") from None
    except (ValueError, TypeError) as error:
        raise error if isinstance(error, UnusableKey) else UnusableKey("malformed key") from None
    return _of_public_key(public, kid=kid, alg=alg)


def _public_numbers(jwk: Mapping[str, Any]) -> object:
    match jwk.get("kty"):
        case "RSA":
            modulus, exponent = (int.from_bytes(_member(jwk, name)) for name in ("n", "e"))
            if modulus.bit_length() > MAX_RSA_BITS:
                raise UnusableKey(f"the RSA key is longer than {MAX_RSA_BITS} bits")
            return rsa.RSAPublicNumbers(exponent, modulus).public_key()
        case "EC" if jwk.get("crv") in _CURVES:
            curve, _, size = _CURVES[jwk["crv"]]
            x, y = _member(jwk, "x"), _member(jwk, "y")
            if len(x) != size or len(y) != size:
                raise UnusableKey("a coordinate has the wrong length")
            numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), curve)
            return numbers.public_key()  # ValueError unless the point is on the curve
        case "OKP" if jwk.get("crv") == "Ed25519":
            return Ed25519PublicKey.from_public_bytes(_member(jwk, "x"))
        case "oct":
            raise UnusableKey("a symmetric key does not belong in a published key set")
    raise UnusableKey("this kind of key is not supported")


def _member(jwk: Mapping[str, Any], name: str) -> bytes:
    text = jwk.get(name)
    if not isinstance(text, str) or not text:
        raise UnusableKey(f"{name} is missing")
    return base64url.decode(text)


def _of_public_key(public: object, *, kid: str | None, alg: str | None) -> Key:
    """The key of *public*. *alg* is the JWK's `alg`: if set, it is the key's only algorithm."""
    match public:
        case rsa.RSAPublicKey():
            if not MIN_RSA_BITS <= public.key_size <= MAX_RSA_BITS:
                raise UnusableKey(
                    f"the RSA key has {public.key_size} bits, not {MIN_RSA_BITS} to {MAX_RSA_BITS}"
                )
            family, algorithms, default = "RSA", FAMILIES["RSA"], "RS256"
            check = _rsa_check(public)
        case ec.EllipticCurvePublicKey():
            by_curve = {curve.name: (only, size) for curve, only, size in _CURVES.values()}
            if public.curve.name not in by_curve:
                raise UnusableKey(f"the curve {public.curve.name} is not supported")
            default, size = by_curve[public.curve.name]
            family, algorithms = "EC", frozenset({default})
            check = _ecdsa_check(public, _HASHES[default[2:]], size)
        case Ed25519PublicKey():
            family, algorithms, default = "OKP", FAMILIES["OKP"], "EdDSA"
            check = _eddsa_check(public)
        case _:
            raise UnusableKey("this kind of key is not supported")
    if alg is not None:
        only = _MISSPELLED.get(alg, alg)
        if only not in algorithms:
            raise UnusableKey("alg is not an algorithm of this kind of key")
        default = only
        algorithms = algorithms if family == "OKP" else frozenset({only})
    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return Key(kid, family, algorithms, default, sha256(der).digest(), check)


def _rsa_check(public: rsa.RSAPublicKey) -> Check:
    size = (public.key_size + 7) // 8

    def check(algorithm: str, signing_input: bytes, signature: bytes) -> bool:
        if len(signature) != size:
            return False
        digest = _HASHES[algorithm[2:]]
        scheme: padding.AsymmetricPadding = padding.PKCS1v15()
        if algorithm.startswith("PS"):  # RFC 7518 section 3.5: the salt is as long as the hash
            scheme = padding.PSS(padding.MGF1(digest), salt_length=digest.digest_size)
        return _no_exception(lambda: public.verify(signature, signing_input, scheme, digest))

    return check


def _ecdsa_check(
    public: ec.EllipticCurvePublicKey, digest: hashes.HashAlgorithm, size: int
) -> Check:
    def check(_: str, signing_input: bytes, signature: bytes) -> bool:
        if len(signature) != 2 * size:
            return False
        r, s = int.from_bytes(signature[:size]), int.from_bytes(signature[size:])
        der = encode_dss_signature(r, s)
        return _no_exception(lambda: public.verify(der, signing_input, ec.ECDSA(digest)))

    return check


def _eddsa_check(public: Ed25519PublicKey) -> Check:
    def check(_: str, signing_input: bytes, signature: bytes) -> bool:
        return _no_exception(lambda: public.verify(signature, signing_input))

    return check


def _no_exception(verify: Callable[[], None]) -> bool:
    try:
        verify()
    except InvalidSignature:
        return False
    return True
