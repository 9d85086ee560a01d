"""Routes about users, and their tokens. All of them are for the key alone."""

from typing import Any

import msgspec

from chat_broker_server.chat import validation
from chat_broker_server.chat.events import Receipt
from chat_broker_server.credentials.tokens import MAX_LIFE
from chat_broker_server.rest.request import NO_CONTENT, Call, Reply, checked, created, ok, page_of

_MINT = {"expires_in": validation.optional(validation.integer(1, MAX_LIFE))}
_REVOKE = {"session_id": validation.optional(validation.identifier)}


async def create(call: Call) -> Reply:
    """POST …/users"""
    body = await call.body()
    draft = validation.user_draft(body)
    return created(await call.chat.create_user(call.pid, draft, idempotency=call.idempotency(body)))


async def listed(call: Call) -> Reply:
    """GET …/users"""
    query = call.query("page", "limit", "external_user_id", "username", "status", "q")
    page, limit = page_of(query)
    return ok(
        await call.chat.list_users(
            call.pid,
            page=page,
            limit=limit,
            external_user_id=query.get("external_user_id"),
            username=query.get("username"),
            status=checked(query, "status", validation.status),
            q=checked(query, "q", validation.line(128)),
        )
    )


async def get(call: Call) -> Reply:
    """GET …/users/{user_id}"""
    call.query()
    return ok(await call.chat.get_user(call.pid, call.ids["user_id"]))


async def update(call: Call) -> Reply:
    """PATCH …/users/{user_id}"""
    changes = validation.user_changes(await call.body())
    user = await call.chat.update_user(call.pid, call.ids["user_id"], changes)
    if changes.status != "suspended":
        return ok(user)
    # Suspending is revoking, too; whoever does it wants to know what it did.
    receipt = await call.parts.close_user(call.pid, user.id, "user_suspended")
    generation = await call.parts.tokens.generation(call.pid, user.id)
    return ok(msgspec.to_builtins(user) | {"receipt": revoked(generation, receipt)})


async def delete(call: Call) -> Reply:
    """DELETE …/users/{user_id}"""
    user_id = call.ids["user_id"]
    await call.chat.delete_user(call.pid, user_id)
    await call.parts.close_user(call.pid, user_id, "user_deleted")
    return NO_CONTENT


async def mint(call: Call) -> Reply:
    """POST …/users/{user_id}/token"""
    wish = validation.fields(await call.body(optional=True), _MINT)
    tokens, user_id = call.parts.tokens, call.ids["user_id"]
    return ok(await tokens.mint(call.pid, user_id, wish.get("expires_in")))


def wished(expires_in: int) -> int:
    """*expires_in*, if the route would take it. Raises what it would refuse it with."""
    if type(expires_in) is not int or not 1 <= expires_in <= MAX_LIFE:
        validation.fields({"expires_in": expires_in}, _MINT)
    return expires_in


async def revoke(call: Call) -> Reply:
    """POST …/users/{user_id}/revoke: durable before anybody is disconnected."""
    body = validation.fields(await call.body(optional=True), _REVOKE)
    user_id, session_id = call.ids["user_id"], body.get("session_id")
    generation = await call.parts.tokens.bump(call.pid, user_id, session_id)
    receipt = await call.parts.close_user(call.pid, user_id, "token_revoked", session_id=session_id)
    return ok(revoked(generation, receipt))


def revoked(generation: int, receipt: Receipt) -> dict[str, Any]:
    """The answer to a revocation."""
    return {
        "generation": generation,
        "sockets_closed": receipt.sockets_closed,
        "nodes_acked": receipt.nodes_acked,
        "nodes_total": receipt.nodes_total,
        "took_ms": receipt.took_ms,
    }
