"""Admin keys: list, create, revoke."""

from fastapi import Request, Response

from chat_broker.admin.keys import AdminKey, AdminScope, digest, new_key, scopes_lacking
from chat_broker.admin.requests import KeyRequest
from chat_broker.admin.routes.router import (
    admin_router,
    admin_services,
    audit_context,
    described,
    needs,
    read,
)
from chat_broker.api.dependencies import KeyId
from chat_broker.api.responses import as_json, nothing
from chat_broker.errors import NotFound, Refused
from chat_broker_kit.text.timestamps import format_timestamp

router = admin_router("admin: keys")

_SHOWN = frozenset({"id", "name", "scopes", "expires_at", "created_at"})


@router.get("/keys", **described(answer={"type": "object"}))
@needs(AdminScope.KEYS_WRITE, "keys.list")
async def list_keys(request: Request) -> Response:
    """Every key but the bootstrap key, newest first, without its secret."""
    return as_json({"items": [key.to_dict() for key in await admin_services(request).keys.all()]})


@router.post("/keys", **described(body=KeyRequest, answer={"type": "object"}, status=201))
@needs(AdminScope.KEYS_WRITE, "keys.create")
async def create_key(request: Request) -> Response:
    """Create a key with scopes that the operator's own key has. Only this response holds the key."""
    body = await read(request, KeyRequest)
    context = audit_context(request)
    context.detail |= {
        "name": body.name,
        "scopes": sorted(body.scopes),
        "expires_at": body.expires_at,
    }
    scopes = body.admin_scopes()
    if lacking := scopes_lacking(context.operator, scopes):
        text = f"This key cannot grant what it lacks: {', '.join(lacking)}."
        raise Refused("scope_not_held", text)
    key_id, secret = new_key()
    key = AdminKey(
        key_id, body.name, scopes, format_timestamp(), context.operator.id, body.expires_at
    )
    context.subject = key_id
    await admin_services(request).keys.add(key, digest(secret.encode()))
    shown = {name: value for name, value in key.to_dict().items() if name in _SHOWN}
    return as_json(shown | {"key": secret}, 201)


@router.delete("/keys/{key_id}", **described(status=204))
@needs(AdminScope.KEYS_WRITE, "keys.revoke")
async def revoke_key(request: Request, key_id: KeyId) -> Response:
    """Revoke a key for good, from the next request on."""
    revoked = await admin_services(request).keys.revoke(key_id, at=format_timestamp())
    if revoked is None:
        raise NotFound("key_not_found", "There is no such key.")
    audit_context(request).detail["name"] = revoked.name
    return nothing()
