"""Base64url without padding, as JWS uses it, and only in its one canonical spelling."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)


class NotBase64Url(ValueError):  # noqa: N818 - named for what happened
    """The text is not base64url, or spells its bytes in a way no encoder would."""


def encode(data: bytes) -> str:
    """Base64url of *data*, unpadded."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """The bytes *text* spells; raises NotBase64Url unless encoding them again gives *text*."""
    if not _ALPHABET.fullmatch(text) or len(text) % 4 == 1:
        raise NotBase64Url("not base64url")
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    # The last character may carry bits that decoding drops: a second spelling of the same token.
    if encode(data) != text:
        raise NotBase64Url("not canonical base64url")
    return data
