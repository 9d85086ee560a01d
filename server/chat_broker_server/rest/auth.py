"""Routes about credentials: the key's project, the token's user, revocation, and the public keys."""

from chat_broker_server.chat.events import ALL_USERS
from chat_broker_server.chat.ids import timestamp
from chat_broker_server.rest.request import Request, Response, ok
from chat_broker_server.rest.users import revocation_body


async def project(request: Request) -> Response:
    """GET /project: the project of the key or token, and what this server offers."""
    request.query()
    return ok(await request.chat.project(request.pid))


async def verify(request: Request) -> Response:
    """GET /auth/verify: the token's user. The router has refused a bad token before this runs."""
    request.query()
    claims = request.claims
    return ok(
        {
            "valid": True,
            "user": {
                "userId": claims.sub,
                "username": claims.name,
                "externalUserId": claims.ext,
                "projectId": claims.pid,
            },
            "expires_at": timestamp(claims.exp),
        }
    )


async def revoke_everything(request: Request) -> Response:
    """POST /projects/{pid}/revoke: revokes every token of the project and closes all its sockets."""
    await request.body(optional=True)
    generation = await request.services.tokens.revoke_all(request.pid)
    closed = await request.services.close_user(request.pid, ALL_USERS, "token_revoked")
    return ok(revocation_body(generation, closed))


async def jwks(request: Request) -> Response:
    """GET /.well-known/jwks.json"""
    return ok(request.services.tokens.jwks())
