"""Operators and users: list, create, change, revoke and ban."""

from typing import Any

from fastapi import Request, Response

from chat_broker.admin.keys import AdminScope
from chat_broker.admin.operations.revocation import RevocationResult
from chat_broker.admin.requests import (
    EXPLAIN_QUERY,
    USERS_QUERY,
    BanRequest,
    MintRequest,
    OptionalReason,
    RevokeAllRequest,
    RevokeRequest,
    UserRequest,
    UserUpdateRequest,
    read_explain,
    read_search_text,
    read_status,
)
from chat_broker.admin.routes.router import (
    admin_router,
    admin_services,
    audit_context,
    described,
    needs,
    query_of,
    read,
    read_reason,
)
from chat_broker.api.dependencies import UserReference
from chat_broker.api.openapi import PAGE, PageOf, Schema, parameter
from chat_broker.api.requests import read_window
from chat_broker.api.responses import as_json, nothing
from chat_broker.api.token import token_view
from chat_broker.chat import views
from chat_broker.chat.socket_address import sockets_for
from chat_broker.errors import BadInput
from chat_broker.upstream.tokens import chat_token
from chat_broker_sdk import ChatUser

router = admin_router("admin: users")

_COUNT: Schema = {"anyOf": [{"type": "number"}, {"type": "null"}]}
REVOCATION: Schema = {
    "type": "object",
    "required": list(RevocationResult().to_dict()),
    "properties": dict.fromkeys(RevocationResult().to_dict(), _COUNT),
}
OBJECT: Schema = {"type": "object"}
_TEXT: Schema = {"type": "string"}


async def _find(request: Request, name: str) -> ChatUser:
    """The user with that name. The audit record then holds both ids. Raises NotFound."""
    user = await admin_services(request).users.find(name)
    audit_context(request).about_user(user)
    return user


async def _view(request: Request, user: ChatUser) -> dict[str, Any]:
    """A user, and the ban in force."""
    ban = await admin_services(request).bans.active(user)
    view = {name: getattr(views.me(user), name) for name in views.MeView.__struct_fields__}
    return view | {"ban": None if ban is None else ban.to_dict()}


@router.get(
    "/users",
    **described(
        answer=PageOf(views.MeView),
        parameters=[
            *PAGE,
            parameter("q", _TEXT, "Part of a name"),
            parameter("status", _TEXT, "active, suspended"),
        ],
    ),
)
@needs(AdminScope.USERS_READ, "users.list", USERS_QUERY)
async def list_users(request: Request) -> Response:
    """One page of users."""
    query = query_of(request)
    window = read_window(query)
    page = await admin_services(request).users.list(
        page=window.page, limit=window.limit, q=read_search_text(query), status=read_status(query)
    )
    return as_json(views.page(page, [views.me(user) for user in page.items]))


# Longer paths stand first: an external id may hold a slash, so `{user:path}` matches them too.


@router.post("/users/{user:path}/token", **described(body=MintRequest, answer=views.TokenView))
@needs(AdminScope.TOKENS_MINT, "tokens.mint")
async def mint_on_behalf(request: Request, user: UserReference) -> Response:
    """A chat token for a user, with the checks of the user's own requests."""
    body, context = await read(request, MintRequest), audit_context(request)
    context.reason = body.reason
    chat_user = await _find(request, user)
    token = await admin_services(request).tokens.mint(chat_user, expires_in=body.expires_in)
    view = token_view(chat_token(token), sockets_for(request.scope))
    context.detail |= {"session_id": view.session_id, "expires_in": view.expires_in}
    return as_json(view)


@router.post("/users/{user:path}/revoke", **described(body=RevokeRequest, answer=REVOCATION))
@needs(AdminScope.TOKENS_REVOKE, "tokens.revoke")
async def revoke(request: Request, user: UserReference) -> Response:
    """Revoke a user's tokens and close the sockets."""
    body, context = await read(request, RevokeRequest), audit_context(request)
    context.reason = body.reason
    chat_user = await _find(request, user)
    result = await admin_services(request).tokens.revoke(chat_user, session_id=body.session_id)
    context.detail |= {"receipt": result.to_dict(), "session_id": body.session_id}
    return as_json(result.to_dict())


@router.get("/users/{user:path}/bans", **described(answer=OBJECT))
@needs(AdminScope.USERS_READ, "users.bans")
async def bans(request: Request, user: UserReference) -> Response:
    """All bans of a user, latest first."""
    history = await admin_services(request).bans.history(await _find(request, user))
    return as_json({"items": [ban.to_dict() for ban in history]})


@router.post("/users/{user:path}/ban", **described(body=BanRequest, answer=OBJECT))
@needs(AdminScope.USERS_BAN, "users.ban")
async def ban(request: Request, user: UserReference) -> Response:
    """Ban a user until an instant or for good, and close the sockets."""
    body, context = await read(request, BanRequest), audit_context(request)
    context.reason = body.reason
    context.detail["until"] = body.until
    chat_user = await _find(request, user)
    record, result = await admin_services(request).bans.ban(
        chat_user, reason=body.reason, until=body.until, by=context.operator.id
    )
    receipt = result.to_dict()
    context.detail |= {"ban": record.id, "receipt": receipt}
    # The receipt's members stand at the top too, so that clients read `revoke` and `ban` alike.
    shown = {"ban": record.to_dict(), "receipt": receipt, **receipt}
    return as_json(shown | {"reason": record.reason, "until": record.until})


@router.delete(
    "/users/{user:path}/ban", **described(body=OptionalReason, optional=True, status=204)
)
@needs(AdminScope.USERS_BAN, "users.unban")
async def unban(request: Request, user: UserReference) -> Response:
    """Lift a ban, if there is one."""
    await read_reason(request)
    context = audit_context(request)
    chat_user = await _find(request, user)
    lifted = await admin_services(request).bans.unban(chat_user, by=context.operator.id)
    context.detail["ban"] = None if lifted is None else lifted.id
    return nothing()


@router.get("/users/{user:path}", **described(answer=views.MeView))
@needs(AdminScope.USERS_READ, "users.get")
async def get_user(request: Request, user: UserReference) -> Response:
    """One user, and the ban in force."""
    return as_json(await _view(request, await _find(request, user)))


@router.put(
    "/users/{user:path}",
    **described(body=UserRequest, optional=True, answer=views.MeView),
)
@needs(AdminScope.USERS_WRITE, "users.put")
async def put_user(request: Request, user: UserReference) -> Response:
    """Create a user by external id (201), or change the fields of the body (200)."""
    fields = (await read(request, UserRequest, optional=True)).changes()
    context = audit_context(request)
    context.detail["fields"] = sorted(fields)
    chat_user, created = await admin_services(request).users.put(user, fields)
    context.about_user(chat_user)
    context.detail["created"] = created
    return as_json(await _view(request, chat_user), 201 if created else 200)


@router.patch("/users/{user:path}", **described(body=UserUpdateRequest, answer=views.MeView))
@needs(AdminScope.USERS_WRITE, "users.update")
async def update_user(request: Request, user: UserReference) -> Response:
    """Change a user; `status` suspends the user, or ends the suspension."""
    fields = (await read(request, UserUpdateRequest)).changes()
    if not fields:
        raise BadInput(message="There is nothing to change in this body.")
    context = audit_context(request)
    context.detail["fields"] = sorted(fields)
    if "status" in fields:
        context.detail["status"] = fields["status"]
    changed = await admin_services(request).users.update(await _find(request, user), fields)
    return as_json(await _view(request, changed))


@router.delete("/users/{user:path}", **described(status=204))
@needs(AdminScope.USERS_WRITE, "users.delete")
async def delete_user(request: Request, user: UserReference) -> Response:
    """Delete a user; the messages stay."""
    await read_reason(request)
    await admin_services(request).users.delete(await _find(request, user))
    return nothing()


@router.post("/revoke-all", **described(body=RevokeAllRequest, answer=REVOCATION))
@needs(AdminScope.TOKENS_REVOKE, "tokens.revoke_all")
async def revoke_all(request: Request) -> Response:
    """Revoke every token of the project, for a signing key that has leaked."""
    context = audit_context(request)
    context.reason = (await read(request, RevokeAllRequest)).reason
    result, users = await admin_services(request).tokens.revoke_all()
    context.detail |= {"receipt": result.to_dict(), "users": users}
    return as_json(result.to_dict() | {"users": users})


@router.get(
    "/explain",
    **described(
        answer=OBJECT,
        parameters=[
            parameter("user", _TEXT, "A chat user id or external:<id>", required=True),
            parameter("room", _TEXT, "A room id", required=True),
            parameter("action", _TEXT, "What they want to do", required=True),
        ],
    ),
)
@needs(AdminScope.USERS_READ, "explain", EXPLAIN_QUERY)
async def explain(request: Request) -> Response:
    """Whether a user may do an action in a room, by which rule, and on what facts."""
    context = audit_context(request)
    user, room, action = read_explain(query_of(request))
    context.subject = user
    context.detail |= {"room_id": room, "wanted": action.value}
    chat_user = await _find(request, user)
    decision, facts = await admin_services(request).users.explain(chat_user, room, action)
    shown = {"allowed": decision.allowed, "rule": decision.rule, "reason": decision.reason}
    return as_json(shown | {"facts": facts})
