"""Operators and users: see, bring in, change, cut off."""

from typing import Any

from fastapi import Request, Response

from chat_broker.admin.keys import Scope
from chat_broker.admin.operations import Receipt
from chat_broker.admin.requests import (
    EXPLAIN_QUERY,
    USERS_QUERY,
    BanWish,
    MintOnBehalf,
    RevokeWish,
    UserChanges,
    UserFields,
    Why,
    WhyMaybe,
    changes_of,
    read_explain,
    read_search_text,
    read_status,
)
from chat_broker.admin.routes.router import (
    admin_router,
    described,
    needs,
    operators,
    read,
    this_call,
)
from chat_broker.api.openapi import PAGE, Schema, page_of, schema_of
from chat_broker.api.requests import read_query, read_window
from chat_broker.api.responses import as_json, nothing
from chat_broker.api.token import token_view
from chat_broker.chat import views
from chat_broker.chat.socket_address import sockets_for
from chat_broker.errors import BadInput
from chat_broker.upstream.tokens import chat_token
from chat_broker_sdk import ChatUser

router = admin_router("admin: users")

_COUNT: Schema = {"anyOf": [{"type": "number"}, {"type": "null"}]}
RECEIPT: Schema = {
    "type": "object",
    "required": list(Receipt().to_dict()),
    "properties": dict.fromkeys(Receipt().to_dict(), _COUNT),
}
BAN: Schema = {"type": "object"}


def _parameter(name: str, description: str, *, required: bool = False) -> Schema:
    schema = {"type": "string"}
    return {
        "name": name,
        "in": "query",
        "required": required,
        "schema": schema,
        "description": description,
    }


async def _whom(request: Request, user: str) -> ChatUser:
    """The user in the path, of whom the audit now knows both names."""
    found = await operators(request).operations.user(user)
    this_call(request).about_user(found)
    return found


async def _view(request: Request, user: ChatUser) -> dict[str, Any]:
    """A user, and the ban that holds."""
    ban = await operators(request).operations.ban_of(user)
    view = {name: getattr(views.me(user), name) for name in views.MeView.__struct_fields__}
    return view | {"ban": None if ban is None else ban.to_dict()}


@router.get(
    "/users",
    **described(
        answer=page_of(views.MeView),
        parameters=[
            *PAGE,
            _parameter("q", "Part of a name"),
            _parameter("status", "active, suspended"),
        ],
    ),
)
@needs(Scope.USERS_READ, "users.list")
async def list_users(request: Request) -> Response:
    """One page of users."""
    query = read_query(request.scope["query_string"], USERS_QUERY)
    window = read_window(query)
    page = await operators(request).operations.users(
        page=window.page, limit=window.limit, q=read_search_text(query), status=read_status(query)
    )
    return as_json(views.page(page, [views.me(user) for user in page.items]))


# Longer paths stand first: an external id may hold a slash, so `{user:path}` takes all it can get.


@router.post(
    "/users/{user:path}/token", **described(body=MintOnBehalf, answer=schema_of(views.TokenView))
)
@needs(Scope.TOKENS_MINT, "tokens.mint")
async def mint_on_behalf(request: Request, user: str) -> Response:
    """A chat token for somebody, under the same conditions as their own."""
    read_query(request.scope["query_string"])
    wish = await read(request, MintOnBehalf)
    this_call(request).reason = wish.reason
    found = await _whom(request, user)
    token = await operators(request).operations.mint(found, expires_in=wish.expires_in)
    view = token_view(chat_token(token), sockets_for(request.scope))
    this_call(request).detail |= {"session_id": view.session_id, "expires_in": view.expires_in}
    return as_json(view)


@router.post("/users/{user:path}/revoke", **described(body=RevokeWish, answer=RECEIPT))
@needs(Scope.TOKENS_REVOKE, "tokens.revoke")
async def revoke(request: Request, user: str) -> Response:
    """Make somebody's tokens worthless and close their sockets; the answer says what that did."""
    read_query(request.scope["query_string"])
    wish = await read(request, RevokeWish)
    call = this_call(request)
    call.reason = wish.reason
    found = await _whom(request, user)
    receipt = await operators(request).operations.revoke(found, session_id=wish.session_id)
    call.detail |= {"receipt": receipt.to_dict(), "session_id": wish.session_id}
    return as_json(receipt.to_dict())


@router.get("/users/{user:path}/bans", **described(answer={"type": "object"}))
@needs(Scope.USERS_READ, "users.bans")
async def bans(request: Request, user: str) -> Response:
    """All bans of a user, latest first."""
    read_query(request.scope["query_string"])
    found = await _whom(request, user)
    history = await operators(request).operations.bans_of(found)
    return as_json({"items": [ban.to_dict() for ban in history]})


@router.post("/users/{user:path}/ban", **described(body=BanWish, answer={"type": "object"}))
@needs(Scope.USERS_BAN, "users.ban")
async def ban(request: Request, user: str) -> Response:
    """Let somebody in nowhere, until an instant or for good, and close their sockets."""
    read_query(request.scope["query_string"])
    wish = await read(request, BanWish)
    call = this_call(request)
    call.reason = wish.reason
    call.detail["until"] = wish.until
    found = await _whom(request, user)
    made, receipt = await operators(request).operations.ban(
        found, reason=wish.reason, until=wish.until, by=call.operator.id
    )
    call.detail |= {"ban": made.id, "receipt": receipt.to_dict()}
    # The receipt stands at the top as well, so that one reader serves `revoke` and `ban`.
    whole = {"ban": made.to_dict(), "receipt": receipt.to_dict(), **receipt.to_dict()}
    return as_json(whole | {"reason": made.reason, "until": made.until})


@router.delete("/users/{user:path}/ban", **described(body=WhyMaybe, optional=True, status=204))
@needs(Scope.USERS_BAN, "users.unban")
async def unban(request: Request, user: str) -> Response:
    """Lift a ban. There need not be one."""
    read_query(request.scope["query_string"])
    call = this_call(request)
    call.reason = (await read(request, WhyMaybe, optional=True)).reason
    found = await _whom(request, user)
    lifted = await operators(request).operations.unban(found, by=call.operator.id)
    call.detail["ban"] = None if lifted is None else lifted.id
    return nothing()


@router.get("/users/{user:path}", **described(answer=schema_of(views.MeView)))
@needs(Scope.USERS_READ, "users.get")
async def get_user(request: Request, user: str) -> Response:
    """One user, and the ban that holds."""
    read_query(request.scope["query_string"])
    return as_json(await _view(request, await _whom(request, user)))


@router.put(
    "/users/{user:path}",
    **described(body=UserFields, optional=True, answer=schema_of(views.MeView)),
)
@needs(Scope.USERS_WRITE, "users.put")
async def put_user(request: Request, user: str) -> Response:
    """Create a user by external id (201), or change the fields given (200)."""
    read_query(request.scope["query_string"])
    fields = changes_of(await read(request, UserFields, optional=True))
    this_call(request).detail["fields"] = sorted(fields)
    found, created = await operators(request).operations.put_user(user, fields)
    this_call(request).about_user(found)
    this_call(request).detail["created"] = created
    return as_json(await _view(request, found), 201 if created else 200)


@router.patch("/users/{user:path}", **described(body=UserChanges, answer=schema_of(views.MeView)))
@needs(Scope.USERS_WRITE, "users.update")
async def update_user(request: Request, user: str) -> Response:
    """Change a user; `status` suspends them, or lets them go."""
    read_query(request.scope["query_string"])
    fields = changes_of(await read(request, UserChanges))
    if not fields:
        raise BadInput(message="There is nothing to change in this body.")
    call = this_call(request)
    call.detail["fields"] = sorted(fields)
    if "status" in fields:
        call.detail["status"] = fields["status"]
    changed = await operators(request).operations.update_user(await _whom(request, user), fields)
    return as_json(await _view(request, changed))


@router.delete("/users/{user:path}", **described(status=204))
@needs(Scope.USERS_WRITE, "users.delete")
async def delete_user(request: Request, user: str) -> Response:
    """Delete a user; what they said stays."""
    read_query(request.scope["query_string"])
    this_call(request).reason = (await read(request, WhyMaybe, optional=True)).reason
    await operators(request).operations.delete_user(await _whom(request, user))
    return nothing()


@router.post("/revoke-all", **described(body=Why, answer=RECEIPT))
@needs(Scope.TOKENS_REVOKE, "tokens.revoke_all")
async def revoke_all(request: Request) -> Response:
    """Make every token of the project worthless: for a signing key that has leaked."""
    read_query(request.scope["query_string"])
    call = this_call(request)
    call.reason = (await read(request, Why)).reason
    receipt, users = await operators(request).operations.revoke_all()
    call.detail |= {"receipt": receipt.to_dict(), "users": users}
    return as_json(receipt.to_dict() | {"users": users})


@router.get(
    "/explain",
    **described(
        answer={"type": "object"},
        parameters=[
            _parameter("user", "A chat user id or external:<id>", required=True),
            _parameter("room", "A room id", required=True),
            _parameter("action", "What they want to do", required=True),
        ],
    ),
)
@needs(Scope.USERS_READ, "explain")
async def explain(request: Request) -> Response:
    """Whether somebody may do something in a room, by which rule, and on what facts."""
    query = read_query(request.scope["query_string"], EXPLAIN_QUERY)
    call = this_call(request)
    user, room, action = read_explain(query)
    call.subject = user
    call.detail |= {"room_id": room, "wanted": action.value}
    found = await _whom(request, user)
    told = await operators(request).operations.explain(found, room, action)
    decision = told.decision
    return as_json(
        {
            "allowed": decision.allowed,
            "rule": decision.rule,
            "reason": decision.reason,
            "facts": told.facts,
        }
    )
