"""What /openapi.json says of a route. Routes read and answer bytes themselves, so it is said here."""

from typing import Any

import msgspec

from chat_broker.api.requests import Body

Schema = dict[str, Any]


def _number(least: int, most: int) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most}


def _parameter(name: str, schema: Schema, description: str, where: str = "query") -> Schema:
    return {
        "name": name,
        "in": where,
        "required": False,
        "schema": schema,
        "description": description,
    }


PAGE = [
    _parameter("page", _number(1, 1_000_000), "Counts from 1"),
    _parameter("limit", _number(1, 200), "Items of a page, 50 unless told"),
]
CURSOR = [
    *PAGE,
    _parameter("before", _number(0, 2**53), "Messages with a smaller seq, newest first"),
    _parameter("after", _number(0, 2**53), "Messages with a greater seq, oldest first"),
]
SCOPE = _parameter(
    "scope", {"type": "string", "enum": ["joined", "open"]}, "Rooms one is in, or may join"
)
KEY = _parameter(
    "Idempotency-Key",
    {"type": "string", "maxLength": 255},
    "The same call twice is done once",
    where="header",
)

PROBLEM: Schema = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "message", "request_id"],
    "properties": {
        **{
            name: {"type": "string"}
            for name in ("type", "title", "detail", "instance", "code", "message", "request_id")
        },
        "status": {"type": "integer"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}

APP_CREDENTIAL, ADMIN_KEY = CREDENTIALS = ("app_credential", "admin_key")
_SECURITY: list[dict[str, list[str]]] = [{APP_CREDENTIAL: []}]


def page_of(item: type[msgspec.Struct]) -> Schema:
    """The schema of a page of *item*."""
    whole = _number(0, 2**53)
    return {
        "type": "object",
        "required": ["items", "page", "limit", "total", "totalPages"],
        "properties": {
            "items": {"type": "array", "items": schema_of(item)},
            "page": whole,
            "limit": whole,
            "total": whole,
            "totalPages": whole,
            "next_cursor": {"anyOf": [whole, {"type": "null"}]},
            "has_more": {"type": "boolean"},
        },
    }


def schema_of(kind: type[msgspec.Struct]) -> Schema:
    """The schema of *kind*, with everything it refers to written out in place."""
    (schema,), parts = msgspec.json.schema_components([kind], ref_template="{name}")
    inlined = _inline(schema, parts)
    assert isinstance(inlined, dict)  # noqa: S101 - a struct's schema is one
    return inlined


def _inline(schema: Any, parts: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inline(each, parts) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inline(parts[schema["$ref"]], parts)
    return {name: _inline(each, parts) for name, each in schema.items()}


def describe(
    *,
    body: type[Body] | None = None,
    optional: bool = False,
    answer: Schema | None = None,
    status: int = 200,
    parameters: list[Schema] | None = None,
    signed_in: bool = True,
) -> dict[str, Any]:
    """Arguments of a route decorator: what it takes, and what it answers."""
    operation: dict[str, Any] = {
        "responses": {
            str(status): {"description": "Done"},
            "4XX": _refusal("The request is refused"),
            "5XX": _refusal("It cannot be done now"),
        },
    }
    if answer is not None:
        operation["responses"][str(status)]["content"] = {"application/json": {"schema": answer}}
    if body is not None:
        schema = body.model_json_schema()
        schema.pop("description", None)
        operation["requestBody"] = {
            "required": not optional,
            "content": {"application/json": {"schema": schema}},
        }
    if parameters:
        operation["parameters"] = parameters
    if signed_in:
        operation["security"] = _SECURITY
    return {"status_code": status, "openapi_extra": operation, "response_model": None}


def _refusal(description: str) -> Schema:
    return {
        "description": description,
        "content": {"application/problem+json": {"schema": PROBLEM}},
    }
