"""Base64url without padding, as JWS uses it, and only in its one canonical spelling."""

from base64 import urlsafe_b64decode, urlsafe_b64encode


class NotBase64Url(ValueError):  # noqa: N818 - named for what happened
    """The text is not base64url, or spells its bytes in a way no encoder would."""


def encode(data: bytes) -> str:
    """Base64url of *data*, unpadded."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """The bytes *text* spells; raises NotBase64Url unless encoding them again gives *text*."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise NotBase64Url("not base64url") from None
    # Decoding skips what it does not know, and drops bits of the last character. An encoder does neither,
    # so this tells any second spelling of a token, foreign characters included.
    if encode(data) != text:
        raise NotBase64Url("not canonical base64url")
    return data
