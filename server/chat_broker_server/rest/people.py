"""Routes about what a user has set, whom a user blocks, and whom a user finds. Only the API key may call them."""

from chat_broker_server.chat import directory, validation
from chat_broker_server.errors import BadInput
from chat_broker_server.rest.request import (
    NO_CONTENT,
    Request,
    Response,
    checked,
    number,
    ok,
    page_and_limit,
)


async def get_settings(request: Request) -> Response:
    request.query()
    return ok(await request.chat.user_settings(request.pid, request.ids["user_id"]))


async def update_settings(request: Request) -> Response:
    changes = validation.user_settings_changes(await request.body())
    user_id = request.ids["user_id"]
    return ok(await request.chat.update_user_settings(request.pid, user_id, changes))


async def list_blocks(request: Request) -> Response:
    page, limit = page_and_limit(request.query("page", "limit"))
    user_id = request.ids["user_id"]
    return ok(await request.chat.blocks(request.pid, user_id, page=page, limit=limit))


async def block(request: Request) -> Response:
    """PUT …/users/{user_id}/blocks/{other_id}: blocking again changes nothing."""
    await request.body(optional=True)
    await request.chat.block(request.pid, request.ids["user_id"], request.ids["other_id"])
    return NO_CONTENT


async def unblock(request: Request) -> Response:
    await request.chat.unblock(request.pid, request.ids["user_id"], request.ids["other_id"])
    return NO_CONTENT


async def find(request: Request) -> Response:
    """GET …/users/{user_id}/directory: users whose names begin with `q`, as that user may see them."""
    query = request.query("q", "limit")
    q = checked(query, "q", validation.single_line(128))
    if q is None:
        raise BadInput.field("q", "is required")
    limit = number(query, "limit", 1, directory.MOST, directory.MOST)
    users = await request.chat.find_users(request.pid, request.ids["user_id"], q, limit)
    return ok({"items": users})
