"""Chat tokens as the broker hands them out, whichever way the Chat API made them."""

import binascii
import time

import msgspec

from chat_broker.errors import BadUpstream
from chat_broker_sdk import Token

_TO_BASE64 = bytes.maketrans(b"-_", b"+/")


class _Claims(msgspec.Struct):
    sid: str | None = None


_claims = msgspec.json.Decoder(_Claims)


class OwnerOfToken(msgspec.Struct):
    """Whose token it is."""

    id: str
    external_user_id: str | None
    username: str | None
    display_name: str | None


class ChatToken(msgspec.Struct, frozen=True):
    """A token that was just made for *user*: its session, its life and its end in (epoch) seconds."""

    token: str
    token_type: str
    expires_in: int
    expires_at: int
    session_id: str | None
    user: OwnerOfToken

    def __repr__(self) -> str:
        return f"ChatToken(token=<hidden>, expires_in={self.expires_in})"


def chat_token(token: Token, now: float | None = None) -> ChatToken:
    """What the Chat API has answered. Raises BadUpstream if it does not say for how long or for whom."""
    now = time.time() if now is None else now
    life, user = token.expires_in, token.user
    if life is None and token.expires_at is not None:
        life = int(token.expires_at.timestamp() - now)
    if life is None or life < 1 or user is None:
        raise BadUpstream
    return ChatToken(
        token.token,
        token.token_type,
        life,
        int(now) + life if token.expires_at is None else int(token.expires_at.timestamp()),
        session_of(token.token),
        OwnerOfToken(user.id, user.external_user_id, user.username, user.display_name),
    )


def session_of(token: str) -> str | None:
    """The `sid` of a token that was just minted for us (so nothing is verified); None if it has none."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = binascii.a2b_base64(parts[1].encode("ascii").translate(_TO_BASE64) + b"==")
        return _claims.decode(payload).sid
    except ValueError:
        return None
