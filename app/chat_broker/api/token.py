"""Chat tokens: minted, checked, made worthless; and who the caller is."""

import random
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from starlette.types import Scope

from chat_broker.api.dependencies import (
    BodyOf,
    Me,
    MeMinting,
    MeSigningOut,
    NoQuery,
    Read,
    ReadHeader,
    ReadSender,
    TheBroker,
    the_gate,
)
from chat_broker.api.openapi import describe
from chat_broker.api.requests import Nothing, TokenWish
from chat_broker.api.responses import as_json, nothing
from chat_broker.chat import views
from chat_broker.chat.socket_address import sockets_for
from chat_broker.errors import NotSignedIn, no_chat_token
from chat_broker.upstream.tokens import ChatToken
from chat_broker_sdk import AuthInfo

router = APIRouter(tags=["token"])

Wish = Annotated[TokenWish, Depends(BodyOf(TokenWish, optional=True))]
TheScope = Annotated[Scope, Depends(Read(lambda scope: scope))]
Authorization = Annotated[list[str], Depends(ReadHeader(b"authorization", lambda values: values))]
"""All values of the header: judged after the address is counted."""
Empty = Annotated[Nothing, Depends(BodyOf(Nothing, optional=True))]
TheSockets = Annotated[views.SocketServer, Depends(ReadSender(sockets_for))]

EARLIEST_REFRESH, LATEST_REFRESH = 0.6, 0.8
"""Share of a token's life after which clients come for the next; spread, so that they do not come at once."""

_described = describe(body=TokenWish, optional=True, answer=views.TokenView)


@router.get("/token", **_described)
@router.post("/token", **_described)
async def mint_token(me: MeMinting, wish: Wish, broker: TheBroker, sockets: TheSockets) -> Response:
    """A chat token for the caller. Every call mints a new one."""
    token = await broker.tokens.mint(me, expires_in=wish.expires_in)
    return as_json(token_view(token, sockets))


@router.delete("/token", **describe(status=204))
async def revoke_tokens(me: MeSigningOut, _: Empty, broker: TheBroker) -> Response:
    """Make all chat tokens of the caller worthless and close their sockets."""
    await broker.tokens.revoke(me)
    return nothing()


@router.get("/me", **describe(answer=views.MeView))
async def whoami(me: Me, _: NoQuery, broker: TheBroker) -> Response:
    """The caller's chat user."""
    return as_json(views.me(await broker.whoami(me)))


@router.get("/verify", **describe(answer=views.VerifiedView, credential=None))
async def verify(_: NoQuery, scope: TheScope, sent: Authorization, broker: TheBroker) -> Response:
    """What the Chat API says of a chat token, sent as bearer."""
    gate = the_gate(scope)
    await gate.admit_address(scope)
    token = chat_token_of(sent)
    try:
        if not gate.may_be_chat_token(token):
            raise no_chat_token()
        return as_json(verified_view(await broker.tokens.verify(token)))
    except NotSignedIn:
        await gate.refused(scope)
        raise


def chat_token_of(values: list[str]) -> str:
    """The bearer of one `Authorization` header. Raises NotSignedIn."""
    scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotSignedIn(message="Send a chat token: Authorization: Bearer …")
    return token.strip()


def token_view(token: ChatToken, server: views.SocketServer) -> views.TokenView:
    """What a client needs to connect, to stay connected, and to know when to come again."""
    life = token.expires_in
    share = random.uniform(EARLIEST_REFRESH, LATEST_REFRESH)  # noqa: S311 - spreads load, keeps no secret
    return views.TokenView(
        token=token.token,
        token_type=token.token_type,
        expires_in=life,
        refresh_in=max(1, int(life * share)) if life > 1 else 0,
        expires_at=seconds(token.expires_at),
        server_time=seconds(int(time.time())),
        session_id=token.session_id,
        user=token.user,
        server=server,
    )


@lru_cache(maxsize=1024)  # all tokens of one second begin and end alike
def seconds(epoch: int) -> str:
    """RFC 3339 in UTC to the second."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def verified_view(info: AuthInfo) -> views.VerifiedView:
    """The Chat API's word in the contract's spelling."""
    user = info.user
    return views.VerifiedView(
        info.valid,
        views.VerifiedUser(user.user_id, user.username, user.external_user_id, user.project_id),
        views.instant(info.expires_at),
    )
