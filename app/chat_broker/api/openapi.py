"""What /openapi.json says of a route: routes read and answer bytes themselves, so FastAPI cannot tell."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from chat_broker.api.requests import Body

Schema = dict[str, Any]


def _number(least: int, most: int) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most}


def _words(*words: str) -> Schema:
    return {"type": "string", "enum": [*words]}


def parameter(
    name: str, schema: Schema, description: str, where: str = "query", *, required: bool = False
) -> Schema:
    return {
        "name": name,
        "in": where,
        "required": required,
        "schema": schema,
        "description": description,
    }


PAGE = [
    parameter("page", _number(1, 1_000_000), "Counts from 1"),
    parameter("limit", _number(1, 200), "Items of a page, 50 unless told"),
]
CURSOR = [
    *PAGE,
    parameter("before", _number(0, 2**53), "Messages with a smaller seq, newest first"),
    parameter("after", _number(0, 2**53), "Messages with a greater seq, oldest first"),
    parameter("around", _number(0, 2**53), "Messages on both sides of a seq"),
    parameter("ids", {"type": "string"}, "At most 50 ids of messages, separated by commas"),
]
ROOMS = [
    parameter("scope", _words("joined", "open"), "Rooms one is in, or may join"),
    *PAGE,
    parameter("q", {"type": "string", "maxLength": 128}, "Part of the name or description"),
    parameter(
        "sort", _words("activity", "created"), "By activity: with a cursor in place of pages"
    ),
    parameter("kind", _words("room", "direct", "thread"), "Rooms of one kind"),
    parameter("archived", {"type": "boolean"}, "Rooms one has archived, or the others"),
    parameter("cursor", {"type": "string"}, "next_cursor of the answer before"),
]
MEMBERS = [
    *PAGE,
    parameter("ids", {"type": "string"}, "At most 100 users, separated by commas"),
    parameter("as", _words("owner", "moderator", "member", "guest"), "Members with this role"),
    parameter("q", {"type": "string", "maxLength": 128}, "Part of a name"),
    parameter(
        "cursor", {"type": "string"}, "next_cursor of the answer before; empty: from the beginning"
    ),
]
KEY = parameter(
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


class PageOf(NamedTuple):
    """An answer that is a page of *item*."""

    item: type[msgspec.Struct]


class Description(NamedTuple):
    """What a route takes and answers. *credential*: the security scheme, None for a route without one."""

    body: type[Body] | None
    optional: bool
    answer: PageOf | type[msgspec.Struct] | Schema | None
    status: int
    parameters: Sequence[Schema]
    credential: str | None

    def operation(self, path_parameters: Iterable[str]) -> Schema:
        """The description in the words of OpenAPI."""
        done: Schema = {"description": "Done"}
        operation: Schema = {
            "responses": {
                str(self.status): done,
                "4XX": _refusal("The request is refused"),
                "5XX": _refusal("It cannot be done now"),
            },
        }
        if self.answer is not None:
            done["content"] = {"application/json": {"schema": _answer_schema(self.answer)}}
        if self.body is not None:
            schema = self.body.model_json_schema(ref_template="{model}")
            schema = _inline(schema, schema.pop("$defs", {}))
            schema.pop("description", None)
            operation["requestBody"] = {
                "required": not self.optional,
                "content": {"application/json": {"schema": schema}},
            }
        if parameters := [*map(_path_parameter, path_parameters), *self.parameters]:
            operation["parameters"] = parameters
        if self.credential is not None:
            operation["security"] = [{self.credential: []}]
        return operation


_PENDING = "x-pending-description"


def describe(
    *,
    body: type[Body] | None = None,
    optional: bool = False,
    answer: PageOf | type[msgspec.Struct] | Schema | None = None,
    status: int = 200,
    parameters: Sequence[Schema] = (),
    credential: str | None = APP_CREDENTIAL,
) -> dict[str, Any]:
    """Arguments of a route decorator. `describe_app` turns them into OpenAPI.

    Schemas of every route take 3 % of a start, and most processes are never asked for them.
    """
    description = Description(body, optional, answer, status, parameters, credential)
    return {
        "status_code": status,
        "openapi_extra": {_PENDING: description},
        "response_model": None,
    }


def describe_app(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """Have `app.openapi` show the descriptions of *routers*, and their security schemes.

    FastAPI's own 422 is left out: no route answers it.
    """
    build = app.openapi

    def openapi() -> dict[str, Any]:
        for router in routers:
            _write_descriptions(router.routes)
        document = build()
        schemes = {name: {"type": "http", "scheme": "bearer"} for name in CREDENTIALS}
        document["components"] = {"securitySchemes": schemes}
        for methods in document["paths"].values():
            for operation in methods.values():
                operation["responses"].pop("422", None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _write_descriptions(routes: Iterable[BaseRoute]) -> None:
    for route in routes:
        if isinstance(route, APIRoute) and route.openapi_extra is not None:
            description: Description | None = route.openapi_extra.pop(_PENDING, None)
            if description is not None:
                # In place: FastAPI's contexts of included routers hold the same dictionary.
                route.openapi_extra |= description.operation(route.param_convertors)


def _path_parameter(name: str) -> Schema:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "title": name.replace("_", " ").title()},
    }


def _answer_schema(answer: PageOf | type[msgspec.Struct] | Schema) -> Schema:
    match answer:
        case PageOf():
            return _page_schema(_struct_schema(answer.item))
        case dict():
            return answer
    return _struct_schema(answer)


def _page_schema(item: Schema) -> Schema:
    whole = _number(0, 2**53)
    return {
        "type": "object",
        "required": ["items", "page", "limit", "total", "totalPages"],
        "properties": {
            "items": {"type": "array", "items": item},
            "page": whole,
            "limit": whole,
            "total": whole,
            "totalPages": whole,
            "next_cursor": {"anyOf": [whole, {"type": "null"}]},
            "has_more": {"type": "boolean"},
            "has_before": {"type": "boolean"},
            "has_after": {"type": "boolean"},
        },
    }


def _struct_schema(kind: type[msgspec.Struct]) -> Schema:
    """The schema of *kind*, with every reference replaced by what it refers to."""
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


def _refusal(description: str) -> Schema:
    return {
        "description": description,
        "content": {"application/problem+json": {"schema": PROBLEM}},
    }
