"""What routes ask for: who is asking, the rules, and input that has been checked.

Each is a callable that FastAPI solves, and the same thing for `app.lane`, which has the whole request at hand:
one function behind both, so that there is no second rule.
"""

from collections.abc import Callable
from typing import Annotated, Generic, TypeVar, cast

from fastapi import Depends, Request
from starlette.types import Scope

from app.broker import Broker, Window
from app.gate import Gate
from app.input import (
    CURSORED,
    PAGED,
    Body,
    read_body,
    read_idempotency_key,
    read_query,
    window_of,
)
from app.limits import Kind
from app.principal import Principal

B = TypeVar("B", bound=Body)
T = TypeVar("T")


def the_gate(scope: Scope) -> Gate:
    """The gate of this process."""
    return cast("Gate", scope["app"].gate)


def the_broker(scope: Scope) -> Broker:
    """The rules of this process."""
    return cast("Broker", scope["app"].broker)


class Admitted:
    """A dependency: the principal behind the request, who may do something of that *kind*."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    async def __call__(self, request: Request) -> Principal:
        """As FastAPI asks."""
        return await the_gate(request.scope).admit(request.scope, self.kind)


class Read(Generic[T]):
    """A dependency: what *of* makes of the head of the request."""

    def __init__(self, of: Callable[[Scope], T]) -> None:
        self.of = of

    # A coroutine, since FastAPI sends plain functions to a thread: a millisecond of CPU for one attribute.
    async def __call__(self, request: Request) -> T:
        """As FastAPI asks."""
        return self.of(request.scope)


class BodyOf(Generic[B]):
    """A dependency: the request's body as a *kind*, and no query. *optional*: or no body either."""

    def __init__(self, kind: type[B], *, optional: bool = False) -> None:
        self._kind = kind
        self._nothing = read_body(b"", None, kind, optional=True) if optional else None
        """What no body at all stands for; the same for everybody, since bodies do not change."""

    async def __call__(self, request: Request) -> B:
        """As FastAPI asks."""
        read_query(request.scope["query_string"])
        return self._of(request.scope, await request.body())

    def of(self, scope: Scope, body: bytes) -> B:
        """The same, for a body that is there already."""
        read_query(scope["query_string"])
        return self._of(scope, body)

    def _of(self, scope: Scope, body: bytes) -> B:
        if not body and self._nothing is not None:
            return self._nothing
        types = header_values(scope, b"content-type")
        kind = types[0] if len(types) == 1 else None
        return read_body(body, kind, self._kind)


def header_values(scope: Scope, name: bytes) -> list[str]:
    """Every value of the header *name* (lower case), in order."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _nothing(scope: Scope) -> None:
    read_query(scope["query_string"])


Me = Annotated[Principal, Depends(Admitted("read"))]
"""Who is asking to see something."""
MeWriting = Annotated[Principal, Depends(Admitted("write"))]
"""Who is asking to change something."""
MeMinting = Annotated[Principal, Depends(Admitted("token"))]
"""Who is asking for a chat token."""
TheBroker = Annotated[Broker, Depends(Read(the_broker))]
NoQuery = Annotated[None, Depends(Read(_nothing))]
PageWanted = Annotated[Window, Depends(Read(lambda scope: window_of(scope["query_string"], PAGED)))]
WindowWanted = Annotated[
    Window, Depends(Read(lambda scope: window_of(scope["query_string"], CURSORED)))
]
IdempotencyKey = Annotated[
    str | None,
    Depends(Read(lambda scope: read_idempotency_key(header_values(scope, b"idempotency-key")))),
]
