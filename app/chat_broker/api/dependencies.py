"""What routes ask for: who is asking, the rules, and input that has been checked.

Each is a callable that FastAPI solves, and the same thing for `chat_broker.fast_path.dispatcher`, which has the whole request at hand:
one function behind both, so that there is no second rule.
"""

from collections.abc import Callable
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Request
from starlette.types import Scope

from chat_broker.admission.gate import Connection, Gate
from chat_broker.admission.rate_limits import Kind
from chat_broker.api.requests import (
    CURSORED,
    PAGED,
    Body,
    read_body,
    read_idempotency_key,
    read_query,
    window_of,
)
from chat_broker.chat.broker import Broker, Window
from chat_broker.chat.policy import ROLES, Role
from chat_broker.chat.principal import Principal
from chat_broker.errors import BadInput
from chat_broker_kit.http.headers import values_of

B = TypeVar("B", bound=Body)
T = TypeVar("T")


def the_gate(scope: Scope) -> Gate:
    """The gate of this process."""
    gate: Gate = scope["app"].gate
    return gate


def the_broker(scope: Scope) -> Broker:
    """The rules of this process."""
    broker: Broker = scope["app"].broker
    return broker


class Admitted:
    """A dependency: the principal behind the request, who may do something of that *kind*."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    async def __call__(self, request: Request) -> Principal:
        """As FastAPI asks."""
        scope, state = request.scope, request.scope["state"]
        arrival = Connection(scope)
        try:
            me, state["usages"] = await the_gate(scope).admit(arrival, self.kind)
        finally:
            state["principal"] = arrival.principal  # the log names who was refused
        return me


class Read(Generic[T]):
    """A dependency: what *of* makes of the head of the request."""

    def __init__(self, of: Callable[[Scope], T]) -> None:
        self.of = of

    # A coroutine, since FastAPI sends plain functions to a thread: a millisecond of CPU for one attribute.
    async def __call__(self, request: Request) -> T:
        """As FastAPI asks."""
        return self.of(request.scope)


class ReadRoom:
    """A dependency: the id of the room in the path, which may be named by the app's own id of it.

    It stands behind the principal in a signature: whoever is not admitted has nothing looked up.
    """

    async def __call__(self, request: Request) -> str:
        """As FastAPI asks."""
        scope = request.scope
        name: str = scope["path_params"]["room_id"]
        if ":" not in name:
            return name
        return await the_broker(scope).room_id(scope["state"]["principal"], name)


class ReadSender(Read[T]):
    """The same, of what header lines and peer alone say: it is the same for the same lines from the same peer."""


class ReadQuery(Generic[T]):
    """A dependency: what *of* makes of the query, and of nothing else."""

    def __init__(self, of: Callable[[bytes], T]) -> None:
        self.of = of

    async def __call__(self, request: Request) -> T:
        """As FastAPI asks."""
        return self.of(request.scope["query_string"])


class ReadHeader(Generic[T]):
    """A dependency: what *of* makes of all values of the header *name* (lower case), in order."""

    def __init__(self, name: bytes, of: Callable[[list[str]], T]) -> None:
        self.name = name
        self.of = of

    async def __call__(self, request: Request) -> T:
        """As FastAPI asks."""
        return self.of(values_of(request.scope["headers"], self.name))


class BodyOf(Generic[B]):
    """A dependency: the request's body as a *kind*, and no query. *optional*: or no body either."""

    def __init__(self, kind: type[B], *, optional: bool = False) -> None:
        self._kind = kind
        self._nothing = read_body(b"", None, kind, optional=True) if optional else None
        """What no body at all stands for; the same for everybody, since bodies do not change."""

    async def __call__(self, request: Request) -> B:
        """As FastAPI asks."""
        scope = request.scope
        read_query(scope["query_string"])
        return self._of(values_of(scope["headers"], b"content-type"), await request.body())

    def of(self, query: bytes, content_types: list[str], body: bytes) -> B:
        """The same, for a body that is there already."""
        read_query(query)
        return self._of(content_types, body)

    def _of(self, content_types: list[str], body: bytes) -> B:
        if not body and self._nothing is not None:
            return self._nothing
        kind = content_types[0] if len(content_types) == 1 else None
        return read_body(body, kind, self._kind)


def _nothing(query: bytes) -> None:
    read_query(query)


def _role(scope: Scope) -> Role:
    named: str = scope["path_params"]["role"]
    for role in ROLES:
        if role == named:
            return role
    raise BadInput.field("role", f"is one of {', '.join(ROLES)}")


Me = Annotated[Principal, Depends(Admitted("read"))]
"""Who is asking to see something."""
MeWriting = Annotated[Principal, Depends(Admitted("write"))]
"""Who is asking to change something."""
MeReacting = Annotated[Principal, Depends(Admitted("react"))]
"""Who is reacting to a message."""
MeSigningOut = Annotated[Principal, Depends(Admitted("sign_out"))]
"""Who is making their own tokens worthless: held up by nothing else that they have done."""
MeMinting = Annotated[Principal, Depends(Admitted("token"))]
"""Who is asking for a chat token."""
TheBroker = Annotated[Broker, Depends(Read(the_broker))]
NoQuery = Annotated[None, Depends(ReadQuery(_nothing))]
PageWanted = Annotated[Window, Depends(ReadQuery(lambda query: window_of(query, PAGED)))]
WindowWanted = Annotated[Window, Depends(ReadQuery(lambda query: window_of(query, CURSORED)))]
# FastAPI would have pydantic build a validator for each, and load its old version to do so: 6 % of a start.
RoomId = Annotated[str, Depends(ReadRoom())]
RoomName = Annotated[str, Depends(Read(lambda scope: scope["path_params"]["room_id"]))]
"""The same as it was named, for operators."""
MessageId = Annotated[str, Depends(Read(lambda scope: scope["path_params"]["message_id"]))]
Emoji = Annotated[str, Depends(Read(lambda scope: scope["path_params"]["emoji"]))]
"""One emoji or `:name:`, or what is neither."""
KeyId = Annotated[str, Depends(Read(lambda scope: scope["path_params"]["key_id"]))]
NamedRole = Annotated[Role, Depends(Read(_role))]
UserReference = Annotated[str, Depends(Read(lambda scope: scope["path_params"]["user"]))]
"""A chat user id, or `external:` and the app's own id."""
IdempotencyKey = Annotated[
    str | None, Depends(ReadHeader(b"idempotency-key", read_idempotency_key))
]
