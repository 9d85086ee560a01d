"""Base64url without padding, as JWS uses it; other spellings of the same bytes are refused."""

from base64 import urlsafe_b64decode
from binascii import b2a_base64

_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class NotBase64Url(ValueError):  # noqa: N818 - named for what happened
    """The text is not base64url, or not the canonical encoding of its bytes."""


def encode(data: bytes) -> bytes:
    return b2a_base64(data, newline=False).translate(_URL_SAFE).rstrip(b"=")


def decode(text: str | bytes) -> bytes:
    """The bytes of *text*. Raises NotBase64Url unless encoding them again gives *text*."""
    try:
        encoded = text.encode("ascii") if isinstance(text, str) else text
        data = urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
    except ValueError:
        raise NotBase64Url("not base64url") from None
    # The decoder skips characters it does not know, and drops bits of the last one. Encoding again
    # detects both, so a token has one spelling.
    if encode(data) != encoded:
        raise NotBase64Url("not canonical base64url")
    return data
