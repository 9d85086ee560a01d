"""Base64url without padding, as JWS uses it; other spellings of the same bytes are refused."""

from base64 import urlsafe_b64decode, urlsafe_b64encode


class NotBase64Url(ValueError):  # noqa: N818 - named for what happened
    """The text is not base64url, or not the canonical encoding of its bytes."""


def encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """The bytes of *text*. Raises NotBase64Url unless encoding them again gives *text*."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise NotBase64Url("not base64url") from None
    # The decoder skips characters it does not know, and drops bits of the last one. Encoding again
    # detects both, so a token has one spelling.
    if encode(data) != text:
        raise NotBase64Url("not canonical base64url")
    return data
