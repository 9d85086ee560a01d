"""The application: FastAPI inside layers of our own, with every error as problem+json."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from chat_broker.admission.gate import Gate
from chat_broker.api.responses import EXPECTED, expected_error
from chat_broker.chat.broker import Broker
from chat_broker.errors import (
    BadInput,
    BrokerError,
    ClientGone,
    MethodNotAllowed,
    NotFound,
    as_broker_error,
)
from chat_broker.fast_path.dispatcher import Dispatcher
from chat_broker.http.edge import Edge, error_answer

Layer = TypeVar("Layer", bound=ASGIApp)
Handler = Callable[[Request, Any], Awaitable[Response]]


class Application(FastAPI):
    """FastAPI inside layers: a request that a layer answers never reaches FastAPI.

    `chat_broker.fast_path.protocol` sends hot routes to *fast_path*, past every layer. *gate* and *broker* are set while
    the lifespan runs; they are plain attributes, since every request reads them.
    """

    fast_path: Dispatcher | None = None
    edge: Edge
    gate: Gate
    broker: Broker

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._outermost: ASGIApp = super().__call__
        _add_error_handlers(self)

    def wrap(self, layer: Callable[..., Layer], **options: Any) -> Layer:
        """Make *layer* the outermost one."""
        outermost = layer(self._outermost, **options)
        self._outermost = outermost
        return outermost

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        await self._outermost(scope, receive, send)


def _add_error_handlers(app: Application) -> None:
    """Replace FastAPI's own error answers: they repeat the request's body."""

    def answering(translate: Callable[[Any], BrokerError]) -> Handler:
        async def answer(request: Request, error: Any) -> Response:
            return _problem_response(request, translate(error))

        return answer

    app.add_exception_handler(ClientDisconnect, answering(lambda _: ClientGone()))
    for kind in EXPECTED:
        app.add_exception_handler(kind, answering(expected_error))
    app.add_exception_handler(HTTPException, _answer_routing_error)
    app.add_exception_handler(Exception, answering(as_broker_error))
    app.add_exception_handler(RequestValidationError, answering(lambda _: BadInput()))


async def _answer_routing_error(request: Request, error: Any) -> Response:
    if error.status_code == 405:
        app: Application = request.app
        allowed = {name.strip() for name in (error.headers or {}).get("Allow", "").split(",")}
        if "GET" in allowed and request.scope["path"] != app.edge.token_path:
            allowed.add("HEAD")
        refusal: BrokerError = MethodNotAllowed(headers={"Allow": ", ".join(sorted(allowed))})
    else:
        refusal = NotFound() if error.status_code == 404 else BadInput()
    return _problem_response(request, refusal)


def _problem_response(request: Request, error: BrokerError) -> Response:
    status, headers, body = error_answer(error, request.scope)
    response = Response(body, status)
    response.raw_headers = headers
    return response
