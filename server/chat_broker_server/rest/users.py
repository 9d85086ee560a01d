"""Routes about users and their tokens. Only the API key may call them."""

from typing import Any

import msgspec

from chat_broker_server.chat import validation
from chat_broker_server.chat.events import CloseResult
from chat_broker_server.chat.users import UserFilter
from chat_broker_server.credentials.tokens import MAX_LIFETIME
from chat_broker_server.rest.request import (
    NO_CONTENT,
    Request,
    Response,
    checked,
    created,
    ok,
    page_and_limit,
)

_MINT = {"expires_in": validation.optional(validation.integer(1, MAX_LIFETIME))}
_REVOKE = {"session_id": validation.optional(validation.identifier)}


async def create(request: Request) -> Response:
    body = await request.body()
    draft = validation.user_draft(body)
    return created(
        await request.chat.create_user(request.pid, draft, idempotency=request.idempotency(body))
    )


async def list_all(request: Request) -> Response:
    query = request.query("page", "limit", "external_user_id", "username", "status", "q")
    page, limit = page_and_limit(query)
    where = UserFilter(
        query.get("external_user_id"),
        query.get("username"),
        checked(query, "status", validation.status),
        checked(query, "q", validation.single_line(128)),
    )
    return ok(await request.chat.list_users(request.pid, where, page=page, limit=limit))


async def get(request: Request) -> Response:
    request.query()
    return ok(await request.chat.get_user(request.pid, request.ids["user_id"]))


async def update(request: Request) -> Response:
    changes = validation.user_changes(await request.body())
    user = await request.chat.update_user(request.pid, request.ids["user_id"], changes)
    if changes.status != "suspended":
        return ok(user)
    # Suspending revokes all tokens, so the response tells how many sockets were closed.
    closed = await request.services.close_user(request.pid, user.id, "user_suspended")
    generation = await request.services.tokens.generation(request.pid, user.id)
    return ok(msgspec.to_builtins(user) | {"receipt": revocation_body(generation, closed)})


async def delete(request: Request) -> Response:
    user_id = request.ids["user_id"]
    await request.chat.delete_user(request.pid, user_id)
    await request.services.close_user(request.pid, user_id, "user_deleted")
    return NO_CONTENT


async def mint(request: Request) -> Response:
    body = validation.fields(await request.body(optional=True), _MINT)
    tokens, user_id = request.services.tokens, request.ids["user_id"]
    return ok(await tokens.mint(request.pid, user_id, body.get("expires_in")))


def checked_lifetime(expires_in: int) -> int:
    """*expires_in*. Raises the BadInput of the token route if that would not accept it."""
    if type(expires_in) is not int or not 1 <= expires_in <= MAX_LIFETIME:
        validation.fields({"expires_in": expires_in}, _MINT)
    return expires_in


async def revoke(request: Request) -> Response:
    """POST …/users/{user_id}/revoke: committed before any socket is closed."""
    body = validation.fields(await request.body(optional=True), _REVOKE)
    user_id, session_id = request.ids["user_id"], body.get("session_id")
    generation = await request.services.tokens.revoke(request.pid, user_id, session_id)
    closed = await request.services.close_user(
        request.pid, user_id, "token_revoked", session_id=session_id
    )
    return ok(revocation_body(generation, closed))


def revocation_body(generation: int, closed: CloseResult) -> dict[str, Any]:
    """The JSON that every revocation route answers."""
    return {"generation": generation, **msgspec.to_builtins(closed)}
