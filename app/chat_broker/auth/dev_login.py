"""`POST /dev/login`: signs in any username without a password, in development."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from chat_broker.auth.dev import COOKIE, LIFETIME_SECONDS, DevSessions, username_problem
from chat_broker.errors import BadInput, TooLarge, UnsupportedMediaType
from chat_broker_kit.http.media_types import is_json
from chat_broker_kit.strict_json import NotStrictJson, parse_object

MAX_BODY = 4096


def dev_router(sessions: DevSessions) -> APIRouter:
    router = APIRouter(tags=["development"])

    @router.post(
        "/dev/login",
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "required": ["username"],
                            "properties": {"username": {"type": "string", "maxLength": 64}},
                            "additionalProperties": False,
                        }
                    }
                },
            }
        },
    )
    async def login(request: Request) -> Response:
        """Sign in as *username*, without a password. Answers a bearer token and sets a cookie."""
        username = await _username(request)
        session = sessions.create(username)
        response = JSONResponse(
            {
                "token": session,
                "token_type": "Bearer",
                "expires_in": LIFETIME_SECONDS,
                "user": {"username": username},
            },
            headers={"Cache-Control": "no-store"},
        )
        response.set_cookie(
            COOKIE,
            session,
            max_age=LIFETIME_SECONDS,
            path="/",
            httponly=True,
            samesite="strict",
            secure=request.scope["scheme"] == "https",  # plain http is usual on loopback
        )
        return response

    return router


async def _username(request: Request) -> str:
    """The username of the body. Only JSON is accepted: another site's page could send a form or plain text."""
    if not is_json(request.headers.get("content-type", "")):
        raise UnsupportedMediaType
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise TooLarge(message=f"The request body is over {MAX_BODY} bytes.")
    try:
        fields = parse_object(bytes(body))
    except NotStrictJson as error:
        raise BadInput(message=f"The request body {error}.") from None
    for unknown in sorted(fields.keys() - {"username"}):
        raise BadInput.field(unknown, "is not known")
    username = fields.get("username")
    if not isinstance(username, str):
        raise BadInput.field("username", "is required and must be a string")
    if problem := username_problem(username):
        raise BadInput.field("username", problem)
    return username
