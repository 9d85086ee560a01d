"""Operators' keys: made, shown once, listed, ended."""

from fastapi import Request, Response

from chat_broker.admin.keys import AdminKey, Scope, digest, new_key, scopes_lacking
from chat_broker.admin.requests import KeyWish
from chat_broker.admin.routes.router import (
    admin_router,
    described,
    needs,
    operators,
    read,
    this_call,
)
from chat_broker.api.requests import read_query
from chat_broker.api.responses import as_json, nothing
from chat_broker.errors import NotFound, Refused
from chat_broker_kit.text.instants import instant

router = admin_router("admin: keys")


@router.get("/keys", **described(answer={"type": "object"}))
@needs(Scope.KEYS_WRITE, "keys.list")
async def list_keys(request: Request) -> Response:
    """Every key but the bootstrap key, newest first, ended ones too; of none the key itself."""
    read_query(request.scope["query_string"])
    return as_json({"items": [key.to_dict() for key in await operators(request).keys.all()]})


@router.post("/keys", **described(body=KeyWish, answer={"type": "object"}, status=201))
@needs(Scope.KEYS_WRITE, "keys.create")
async def create_key(request: Request) -> Response:
    """A new key with no scope that the caller's own lacks. The key is in this answer and nowhere else."""
    read_query(request.scope["query_string"])
    wish = await read(request, KeyWish)
    call = this_call(request)
    call.detail |= {"name": wish.name, "scopes": sorted(wish.scopes), "expires_at": wish.expires_at}
    scopes = wish.wanted()
    if lacking := scopes_lacking(call.operator, scopes):
        text = f"This key cannot grant what it lacks: {', '.join(lacking)}."
        raise Refused("scope_not_held", text)
    key_id, secret = new_key()
    key = AdminKey(key_id, wish.name, scopes, instant(), call.operator.id, wish.expires_at)
    call.subject = key_id
    await operators(request).keys.add(key, digest(secret.encode()))
    return as_json(
        {
            "id": key.id,
            "name": key.name,
            "scopes": sorted(key.scopes),
            "expires_at": key.expires_at,
            "created_at": key.created_at,
            "key": secret,
        },
        201,
    )


@router.delete("/keys/{key_id}", **described(status=204))
@needs(Scope.KEYS_WRITE, "keys.revoke")
async def revoke_key(request: Request, key_id: str) -> Response:
    """End a key for good, from the next call on."""
    read_query(request.scope["query_string"])
    ended = await operators(request).keys.revoke(key_id, at=instant())
    if ended is None:
        raise NotFound("key_not_found", "There is no such key.")
    this_call(request).detail["name"] = ended.name
    return nothing()
