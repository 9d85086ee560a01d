"""Routes about credentials: whose is this, and how to verify it."""

from chat_broker_server.chat.events import EVERYBODY
from chat_broker_server.chat.identity import instant
from chat_broker_server.rest.request import Call, Reply, ok
from chat_broker_server.rest.users import revoked


async def project(call: Call) -> Reply:
    """GET /project: which project the key or token opens, and what this server offers."""
    call.query()
    return ok(await call.chat.project(call.pid))


async def verify(call: Call) -> Reply:
    """GET /auth/verify: whose token it is; a bad one never gets here."""
    call.query()
    claims = call.claims
    return ok(
        {
            "valid": True,
            "user": {
                "userId": claims.sub,
                "username": claims.name,
                "externalUserId": claims.ext,
                "projectId": claims.pid,
            },
            "expires_at": instant(claims.exp),
        }
    )


async def revoke_everything(call: Call) -> Reply:
    """POST /projects/{pid}/revoke: every token of the project is dead, and every socket closed."""
    await call.body(optional=True)
    generation = await call.parts.tokens.bump_project(call.pid)
    return ok(
        revoked(generation, await call.parts.close_user(call.pid, EVERYBODY, "token_revoked"))
    )


async def jwks(call: Call) -> Reply:
    """GET /.well-known/jwks.json"""
    return ok(call.parts.tokens.jwks())
