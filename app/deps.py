"""What routes ask for: who is asking, the rules, and input that has been checked."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar, cast

from fastapi import Depends, Request

from app.broker import Broker, Window
from app.gate import Gate
from app.input import (
    CURSORED,
    PAGED,
    Body,
    read_body,
    read_idempotency_key,
    read_query,
    read_window,
)
from app.limits import Kind
from app.principal import Principal

B = TypeVar("B", bound=Body)


def the_gate(request: Request) -> Gate:
    """The gate of this process."""
    return cast("Gate", request.app.state.gate)


def the_broker(request: Request) -> Broker:
    """The rules of this process."""
    return cast("Broker", request.app.state.broker)


async def _rules(request: Request) -> Broker:
    # A coroutine, since FastAPI sends plain functions to a thread: a millisecond of CPU for one attribute.
    return the_broker(request)


def _admitted(kind: Kind) -> Callable[[Request], Awaitable[Principal]]:
    async def admit(request: Request) -> Principal:
        return await the_gate(request).admit(request, kind)

    return admit


def body_of(kind: type[B], *, optional: bool = False) -> Callable[[Request], Awaitable[B]]:
    """A dependency: the request's body as a *kind*, and no query."""

    async def read(request: Request) -> B:
        read_query(request.scope["query_string"])
        raw = await request.body()
        types = request.headers.getlist("content-type")
        return read_body(raw, types[0] if len(types) == 1 else None, kind, optional=optional)

    return read


async def _nothing(request: Request) -> None:
    read_query(request.scope["query_string"])


async def _page(request: Request) -> Window:
    return read_window(read_query(request.scope["query_string"], PAGED))


async def _cursor(request: Request) -> Window:
    return read_window(read_query(request.scope["query_string"], CURSORED))


async def _key(request: Request) -> str | None:
    return read_idempotency_key(request.headers.getlist("idempotency-key"))


Me = Annotated[Principal, Depends(_admitted("read"))]
"""Who is asking to see something."""
MeWriting = Annotated[Principal, Depends(_admitted("write"))]
"""Who is asking to change something."""
MeMinting = Annotated[Principal, Depends(_admitted("token"))]
"""Who is asking for a chat token."""
TheBroker = Annotated[Broker, Depends(_rules)]
NoQuery = Annotated[None, Depends(_nothing)]
PageWanted = Annotated[Window, Depends(_page)]
WindowWanted = Annotated[Window, Depends(_cursor)]
IdempotencyKey = Annotated[str | None, Depends(_key)]
