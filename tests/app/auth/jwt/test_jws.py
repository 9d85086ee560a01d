"""JWS: the accepted form, the matching key, and known attacks."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_broker.auth.errors import BadToken
from chat_broker.auth.jwt.jws import MAX_TOKEN_LENGTH, is_chat_token, looks_like_jws, parse, verify
from chat_broker.auth.jwt.keys import UnusableKey, key_from_jwk, key_from_pem, key_from_secret
from chat_broker_kit import base64url
from tests.app.auth.signing import (
    SECRET,
    Signer,
    b64,
    claims,
    ec_signer,
    ed_signer,
    number,
    rsa_signer,
    secret_signer,
)

SIGNERS = [
    *(rsa_signer(alg=alg) for alg in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
    *(ec_signer(alg=alg) for alg in ("ES256", "ES384", "ES512")),
    ed_signer(),
]


def refuses(token: str, jwk: object = None, *, saying: str = ".") -> None:
    key = key_from_secret(SECRET.encode()) if jwk is None else key_from_jwk(jwk)  # type: ignore[arg-type]
    with pytest.raises(BadToken, match=saying):
        verify(parse(token), key)


@pytest.mark.parametrize("signer", SIGNERS, ids=lambda signer: signer.alg)
def test_every_algorithm_verifies_and_answers_the_signed_payload(signer: Signer) -> None:
    token = signer.token({"any": "thing"})
    assert json.loads(verify(parse(token), key_from_jwk(signer.jwk))) == {"any": "thing"}


@pytest.mark.parametrize("signer", SIGNERS, ids=lambda signer: signer.alg)
def test_a_changed_signature_is_refused(signer: Signer) -> None:
    head, payload, _ = signer.token().split(".")
    good = signer.signature(f"{head}.{payload}".encode())
    for bad in (good[:-1] + bytes([good[-1] ^ 1]), bytes([good[0] ^ 1]) + good[1:], good[:-1]):
        refuses(f"{head}.{payload}.{b64(bad)}", signer.jwk, saying="signature is wrong")
    for bad in (good + b"\0", b"\0" + good, bytes(len(good)), b"", b"\xff" * len(good)):
        refuses(f"{head}.{payload}.{b64(bad)}", signer.jwk, saying="signature is wrong")


@pytest.mark.parametrize("signer", SIGNERS, ids=lambda signer: signer.alg)
def test_another_key_of_the_same_kind_is_refused(signer: Signer) -> None:
    other = Signer(_fresh(signer), signer.alg, signer.kid)
    refuses(other.token(), signer.jwk, saying="signature is wrong")


def _fresh(signer: Signer) -> object:
    match signer.alg[:2]:
        case "RS" | "PS":
            return rsa_signer("another", signer.alg).private
        case "ES":
            return ec_signer("another", signer.alg).private
    return ed_signer("another").private


def test_a_shared_secret_verifies_hs256() -> None:
    payload = verify(parse(secret_signer().token()), key_from_secret(SECRET.encode()))
    assert json.loads(payload) == claims()
    refuses(secret_signer("another-secret-of-thirty-two-byt").token(), saying="signature is wrong")


@pytest.mark.parametrize("length", [0, 1, 31])
def test_a_short_secret_is_no_key(length: int) -> None:
    with pytest.raises(UnusableKey, match="32 bytes"):
        key_from_secret(b"x" * length)
    assert key_from_secret(b"x" * 32).algorithms == {"HS256"}


# -- the algorithm ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "alg", ["none", "None", "nOnE", "NONE", "", " HS256", "HS256 ", "hs256", "HS512", "HS384", "RS256"]
)  # fmt: skip
def test_no_algorithm_but_the_keys_own_is_taken(alg: str) -> None:
    head, payload = b64(json.dumps({"alg": alg})), b64(json.dumps(claims()))
    signature = b64(secret_signer().signature(f"{head}.{payload}".encode(), "HS256"))
    refuses(f"{head}.{payload}.{signature}")
    refuses(f"{head}.{payload}.")


@pytest.mark.parametrize("alg", [None, 1, True, ["HS256"], {"HS256": 1}, "x" * 200])
def test_the_algorithm_is_a_short_string(alg: object) -> None:
    refuses(secret_signer().raw(json.dumps({"alg": alg}), b"{}"), saying="alg")
    refuses(secret_signer().raw("{}", b"{}"), saying="alg")


def test_a_published_key_is_never_an_hmac_secret() -> None:
    """Key confusion: HS256 with the public key, in every encoding, as the secret."""
    signer = rsa_signer()
    jwk = signer.jwk
    der = base64url.decode(b64("".join(signer.pem.splitlines()[1:-1])))
    for text in (signer.pem, signer.pem.strip(), json.dumps(jwk), jwk["n"], "k1"):
        forged = Signer(text.encode(), "HS256", "k1").token()
        refuses(forged, jwk, saying="algorithm of its key")
    refuses(Signer(der, "HS256", "k1").token(), jwk, saying="algorithm of its key")


def test_a_key_serves_only_the_algorithm_it_was_published_for() -> None:
    signer = rsa_signer()
    for alg in ("RS384", "RS512", "PS256", "PS384", "PS512"):
        head, payload = b64(json.dumps({"alg": alg, "kid": "k1"})), b64("{}")
        signature = b64(signer.signature(f"{head}.{payload}".encode(), alg))
        refuses(f"{head}.{payload}.{signature}", signer.jwk, saying="algorithm of its key")
        unnamed = key_from_jwk({**signer.jwk, "alg": alg})
        assert verify(parse(f"{head}.{payload}.{signature}"), unnamed) == b"{}"


def test_without_a_name_a_key_has_one_default_and_may_be_narrowed() -> None:
    jwk = rsa_signer().jwk
    del jwk["alg"]
    key = key_from_jwk(jwk)
    default, narrowed = key.narrowed(None), key.narrowed(frozenset({"PS256", "ES256"}))
    assert default is not None
    assert default.algorithms == {"RS256"}
    assert narrowed is not None
    assert narrowed.algorithms == {"PS256"}
    assert key.narrowed(frozenset({"ES256"})) is None
    ed = key_from_jwk(ed_signer().jwk).narrowed(None)
    assert ed is not None  # one algorithm, two names
    assert ed.algorithms == {"EdDSA", "Ed25519"}
    assert ed.kid == "k1"
    assert ed.family == "OKP"
    assert ed.default == "EdDSA"
    token = parse(ed_signer().token(b"{}", alg="Ed25519"))
    assert verify(token, ed) == b"{}"
    assert not ed.verifies("RS256", token.signing_input, token.signature)


def test_ecdsa_zero_and_oversized_numbers_are_refused() -> None:
    signer = ec_signer()
    head, payload, _ = signer.token().split(".")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    good = signer.signature(f"{head}.{payload}".encode())
    r, s = int.from_bytes(good[:32]), int.from_bytes(good[32:])
    for a, b in ((0, 0), (0, s), (r, 0), (order, s), (r, order), (1, 1), (2**256 - 1, 2**256 - 1)):
        refuses(f"{head}.{payload}.{b64(a.to_bytes(32) + b.to_bytes(32))}", signer.jwk)
    refuses(f"{head}.{payload}.{b64(r.to_bytes(33) + s.to_bytes(33))}", signer.jwk)


# -- the form ---------------------------------------------------------------------------------------


def test_another_spelling_of_the_same_bytes_is_refused() -> None:
    """Padding bits, padding, blanks and the other base64 alphabet are refused."""
    signer = secret_signer()
    head, payload, signature = signer.token().split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(signature[-1])
    assert last % 4 == 0  # 32 bytes end in four bits and two that mean nothing
    for bits in (1, 2, 3):
        refuses(f"{head}.{payload}.{signature[:-1]}{alphabet[last + bits]}", saying="canonical")
    for spelled in ("=", " ", "\n", "\t", "?", "\u00e9", "%3D", "."):
        for token in (
            f"{head}.{payload}.{signature}{spelled}",
            f"{head}{spelled}.{payload}.{signature}",
            f"{head}.{payload}{spelled}.{signature}",
            f"{spelled}{head}.{payload}.{signature}",
        ):
            refuses(token, saying="three base64url parts|canonical")
    signed = f"{head}.{payload}="
    refuses(f"{signed}.{b64(signer.signature(signed.encode()))}", saying="canonical")
    odd = f"{head}.{payload[:-1]}"
    while len(odd.split(".")[1]) % 4 != 1:
        odd = odd[:-1]
    refuses(f"{odd}.{b64(signer.signature(odd.encode()))}", saying="canonical")


@pytest.mark.parametrize(
    "token", ["", ".", "..", "...", "a", "a.b", "a.b.c.d", "a.b.c.d.e", ".b.c"]
)
def test_anything_but_three_parts_is_refused(token: str) -> None:
    assert not looks_like_jws(token)
    refuses(token, saying="three base64url parts")


def test_a_json_serialization_is_refused() -> None:
    head, payload, signature = secret_signer().token().split(".")
    flattened = json.dumps({"protected": head, "payload": payload, "signature": signature})
    refuses(flattened, saying="three base64url parts")


def test_an_oversized_token_is_refused_before_it_is_read() -> None:
    signer = secret_signer()
    empty = len(signer.token(b""))
    fits = signer.token(b"x" * ((MAX_TOKEN_LENGTH - empty) * 3 // 4))
    assert MAX_TOKEN_LENGTH - 2 <= len(fits) <= MAX_TOKEN_LENGTH
    parse(fits)
    refuses(fits + "A" * (MAX_TOKEN_LENGTH + 1 - len(fits)), saying="longer than 8192")


@pytest.mark.parametrize(
    "header",
    [
        " ",
        "null",
        "[]",
        '"HS256"',
        "{",
        '{"alg":"HS256"}x',
        '{"alg":"HS256"} {}',
        '{"alg":"none","alg":"HS256"}',
        '{"alg":"HS256","x":{"a":1,"a":2}}',
        '{"alg":"HS256","x":NaN}',
        '{"alg":"HS256","x":Infinity}',
        '{"alg":"HS256","x":"\\ud800"}',
        '{"alg":"HS256","\\uDC00":1}',
        '\ufeff{"alg":"HS256"}',
        '{"alg":"HS256","x":' + "[" * 40 + "]" * 40 + "}",
        '{"alg":"HS256","x":' + "9" * 5000 + "}",
        '{"alg":"HS256","x":' + "[" * 2000 + "]" * 2000 + "}",
    ],
)
def test_a_header_that_readers_could_disagree_about_is_refused(header: str) -> None:
    refuses(secret_signer().raw(header, b"{}"), saying="plain JSON object")


def test_a_header_in_another_encoding_is_refused() -> None:
    for encoded in ('{"alg":"HS256"}'.encode("utf-16"), b'{"alg":"HS256","x":"\xff"}'):
        signing_input = f"{b64(encoded)}.{b64('{}')}"
        signature = b64(secret_signer().signature(signing_input.encode()))
        refuses(f"{signing_input}.{signature}", saying="plain JSON object")


@pytest.mark.parametrize(
    "extra",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": []},
        {"crit": None},
        {"crit": ["b64"], "b64": True},
        {"b64": False},
        {"b64": True},
        {"zip": "DEF"},
        {"enc": "A128GCM"},
    ],
)
def test_extensions_are_refused(extra: dict[str, object]) -> None:
    refuses(secret_signer().token(**extra), saying="is not accepted")


@pytest.mark.parametrize("name", ["kid", "typ"])
@pytest.mark.parametrize("value", [1, None, [], {}, True, "x" * 129])
def test_kid_and_typ_are_short_strings_or_absent(name: str, value: object) -> None:
    refuses(secret_signer().token(**{name: value}), saying=name)
    assert getattr(parse(secret_signer().token(**{name: "x" * 128})), name) == "x" * 128
    assert getattr(parse(secret_signer().token(kid=..., typ=...)), name) is None


def test_keys_inside_a_token_are_never_used() -> None:
    """jwk, jku, x5u and x5c, by which a sender could name its own key, are ignored."""
    attacker, trusted = rsa_signer("attacker"), rsa_signer()
    forged = attacker.token(
        kid="k1",
        jwk=attacker.jwk,
        jku="http://127.0.0.1:9/k",
        x5u="http://127.0.0.1:9/x",
        x5c=["MII"],
    )
    refuses(forged, trusted.jwk, saying="signature is wrong")
    verify(
        parse(trusted.token(jwk=attacker.jwk, jku="http://127.0.0.1:9/k")),
        key_from_jwk(trusted.jwk),
    )


@given(st.text(max_size=200))
def test_any_text_at_all_is_parsed_or_refused(text: str) -> None:
    for token in (text, f"{b64(text.encode('utf-8', 'replace'))}.e30.AA"):
        try:
            parse(token)
        except BadToken:
            continue


@given(st.binary(max_size=64))
def test_base64url_has_one_spelling(data: bytes) -> None:
    assert base64url.decode(base64url.encode(data)) == data


# -- keys -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"use": "enc"}, "use"),
        ({"use": ""}, "use"),
        ({"use": None}, "use"),
        ({"key_ops": ["encrypt"]}, "key_ops"),
        ({"key_ops": []}, "key_ops"),
        ({"key_ops": "verify"}, "key_ops"),
        ({"alg": "RSA-OAEP"}, "alg"),
        ({"alg": "HS256"}, "alg"),
        ({"alg": "none"}, "alg"),
        ({"alg": 1}, "alg"),
        ({"alg": "ES256"}, "alg"),
        ({"kid": 1}, "kid"),
        ({"kid": ""}, "kid"),
        ({"kid": "x" * 129}, "kid"),
        ({"kty": "oct", "k": b64(b"x" * 32)}, "symmetric"),
        ({"kty": "XYZ"}, "not supported"),
        ({"kty": None}, "not supported"),
        ({"n": ...}, "n is missing"),
        ({"n": ""}, "n is missing"),
        ({"n": 5}, "n is missing"),
        ({"e": ...}, "e is missing"),
        ({"e": "AQ"}, "malformed"),
        ({"e": "Ag"}, "malformed"),
        ({"n": "AQAB=="}, "malformed"),
        ({"n": number(2**9000 + 1)}, "longer than 8192"),
    ],
)
def test_a_key_for_something_else_verifies_nothing(change: dict[str, object], why: str) -> None:
    jwk = {
        name: value for name, value in {**rsa_signer().jwk, **change}.items() if value is not ...
    }
    with pytest.raises(UnusableKey, match=why):
        key_from_jwk(jwk)


def test_a_key_may_say_that_it_verifies() -> None:
    signer = rsa_signer()
    for change in ({"key_ops": ["verify"]}, {"key_ops": ["sign", "verify"]}, {"kid": "x" * 128}):
        key = key_from_jwk({**signer.jwk, **change})
        assert verify(parse(signer.token(b"{}")), key) == b"{}"
    assert key_from_jwk(rsa_signer(None).jwk).kid is None
    jwk = signer.jwk
    del jwk["use"]
    assert key_from_jwk(jwk).algorithms == {"RS256"}


@pytest.mark.parametrize("bits", [512, 1024, 2040])
def test_rsa_keys_under_2048_bits_are_refused(bits: int) -> None:
    modulus = (1 << (bits - 1)) | 1
    with pytest.raises(UnusableKey):
        key_from_jwk({"kty": "RSA", "n": number(modulus), "e": "AQAB"})
    assert key_from_jwk({"kty": "RSA", "n": number((1 << 2047) | 1), "e": "AQAB"}).family == "RSA"
    assert key_from_jwk({"kty": "RSA", "n": number((1 << 8191) | 1), "e": "AQAB"}).family == "RSA"


@pytest.mark.parametrize(
    "change",
    [
        {"crv": "P-384"},
        {"crv": "secp256k1"},
        {"crv": None},
        {"x": b64(bytes(32))},
        {"x": b64(bytes(31))},
        {"x": b64(bytes(33))},
        {"y": b64(b"\x01" * 32)},
        {"y": b64(bytes(31))},
        {"y": ...},
        {"alg": "ES384"},
        {"alg": "ES521"},
    ],
)
def test_a_point_off_its_curve_is_no_key(change: dict[str, object]) -> None:
    jwk = {name: value for name, value in {**ec_signer().jwk, **change}.items() if value is not ...}
    with pytest.raises(UnusableKey):
        key_from_jwk(jwk)


def test_es512_may_be_called_after_its_curve() -> None:
    signer = ec_signer(alg="ES512")
    key = key_from_jwk({**signer.jwk, "alg": "ES521"})
    assert verify(parse(signer.token(b"{}")), key) == b"{}"


@pytest.mark.parametrize(
    "change", [{"crv": "Ed448"}, {"crv": "X25519"}, {"x": b64(bytes(31))}, {"x": ...}]
)
def test_other_edwards_keys_are_refused(change: dict[str, object]) -> None:
    jwk = {name: value for name, value in {**ed_signer().jwk, **change}.items() if value is not ...}
    with pytest.raises(UnusableKey):
        key_from_jwk(jwk)


@pytest.mark.parametrize("signer", [rsa_signer(), ec_signer(), ec_signer(alg="ES384"), ed_signer()])
def test_a_pem_key_is_the_same_key(signer: Signer) -> None:
    jwk_key, pem_key = key_from_jwk(signer.jwk), key_from_pem(signer.pem)
    assert pem_key.fingerprint == jwk_key.fingerprint
    assert pem_key.kid is None
    assert verify(parse(signer.token(b"{}")), pem_key) == b"{}"
    one_line = signer.pem.replace("\n", "\\n")  # as an .env file holds it
    assert key_from_pem(one_line).fingerprint == jwk_key.fingerprint
    assert jwk_key.fingerprint != key_from_jwk(rsa_signer("other").jwk).fingerprint


def test_a_certificate_is_read_for_its_key(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    signer = rsa_signer()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "id.example.com")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(signer.private.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2027, 1, 1, tzinfo=UTC))
        .sign(signer.private, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    assert key_from_pem(pem).fingerprint == key_from_jwk(signer.jwk).fingerprint


@pytest.mark.parametrize(
    "pem", ["", "hello", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"]
)
def test_what_is_no_pem_public_key_is_refused(pem: str) -> None:
    with pytest.raises(UnusableKey, match="PEM"):
        key_from_pem(pem)
    with pytest.raises(UnusableKey, match="PEM"):
        key_from_pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")


def test_a_pem_of_a_small_or_strange_key_is_refused() -> None:
    from cryptography.hazmat.primitives.asymmetric import dsa, ec

    weak = Signer(dsa.generate_private_key(2048), "DSA")
    with pytest.raises(UnusableKey, match="kind"):
        key_from_pem(weak.pem)
    other_curve = Signer(ec.generate_private_key(ec.SECP256K1()), "ES256K")
    with pytest.raises(UnusableKey, match="secp256k1"):
        key_from_pem(other_curve.pem)


def test_a_key_hides_its_secret() -> None:
    assert SECRET not in repr(key_from_secret(SECRET.encode()))


# -- a judge from outside ---------------------------------------------------------------------------

WYCHEPROOF = os.environ.get("WYCHEPROOF_VECTORS")

# Called valid there, refused here on purpose: a token signed with PS384 under a key published for PS256
# (RFC 7517 section 4.4), and parts with a character that is not base64url (RFC 7515 section 2).
STRICTER = {346, 350, 372, 373}


if (
    WYCHEPROOF is not None
):  # a folder with the public vectors, which are not part of this repository

    def test_no_public_vector_is_misjudged() -> None:
        document = json.loads((Path(WYCHEPROOF) / "json_web_signature_test.json").read_text())
        wrong: list[tuple[int, str]] = []
        for group in document["testGroups"]:
            jwk = group.get("public") or group["private"]
            valid = {test["jws"] for test in group["tests"] if test["result"] == "valid"}
            for test in group["tests"]:
                expected = test["result"] == "valid" and test["tcId"] not in STRICTER
                if not expected and test["jws"] in valid and test["tcId"] not in STRICTER:
                    continue  # byte for byte a token that the same file calls valid under the same key
                if _accepts(test["jws"], jwk) != expected:
                    wrong.append((test["tcId"], test["comment"]))
        assert wrong == []


def _accepts(token: str, jwk: dict[str, str]) -> bool:
    try:
        if jwk["kty"] == "oct":
            key = key_from_secret(base64url.decode(jwk["k"]))
        else:
            key = key_from_jwk(jwk)
        verify(parse(token), key)
    except (BadToken, UnusableKey):
        return False
    return True


@pytest.mark.parametrize("typ", ["chat+jwt", "CHAT+JWT", "application/chat+jwt"])
def test_a_chat_token_says_that_it_is_one(typ: str) -> None:
    assert is_chat_token(ed_signer().token(typ=typ))


@pytest.mark.parametrize(
    "token",
    [
        *(ed_signer().token(typ=typ) for typ in ("JWT", "at+jwt", "", ..., 5, None, ["chat+jwt"])),
        ed_signer().token(typ="chat+jwt", more="x" * 2000),
        "", ".", "..", "chat+jwt", "x.y.z", b64("[]") + ".x.y", b64('{"typ":"chat+jwt"}'),
        b64('{"typ":"JWT","typ":"chat+jwt"}') + ".x.y", "\u00e9.x.y",
    ],
)  # fmt: skip
def test_anything_else_does_not(token: str) -> None:
    assert not is_chat_token(token)
