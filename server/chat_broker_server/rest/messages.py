from chat_broker_server.chat import sizes, validation
from chat_broker_server.chat.validation import MAX_SEQ
from chat_broker_server.errors import BadInput
from chat_broker_server.rest.request import (
    NO_CONTENT,
    Request,
    Response,
    created,
    number,
    ok,
    page_and_limit,
    page_limit,
)
from chat_broker_server.rest.rooms import acting_user_id, require_member

_EDIT = {"content": validation.content}


async def list_all(request: Request) -> Response:
    """GET …/messages: a numbered page, or the messages next to the cursor `before` or `after`."""
    query = request.query("page", "limit", "before", "after")
    room_id = request.ids["room_id"]
    if "before" not in query and "after" not in query:
        page, limit = page_and_limit(query, bounded=False)
        from_seq = await require_member(request)
        return ok(
            await request.chat.messages_page(
                request.pid, room_id, page=page, limit=limit, from_seq=from_seq
            )
        )
    if "page" in query:
        raise BadInput.field("page", "cannot be combined with before or after")
    limit = page_limit(query)
    before = number(query, "before", 1, MAX_SEQ, 1) if "before" in query else None
    after = number(query, "after", 0, MAX_SEQ, 0) if "after" in query else None
    from_seq = await require_member(request)
    page_of_messages = await request.chat.messages_between(
        request.pid, room_id, before=before, after=after, limit=limit, from_seq=from_seq
    )
    response = ok(page_of_messages)
    if len(response.body) > sizes.LARGEST_RESPONSE:
        response = ok(sizes.shortened(page_of_messages))
    return response


async def post(request: Request) -> Response:
    body = await request.body()
    draft = validation.fields(body, validation.MESSAGE, "content")
    message = await request.chat.post(
        request.pid,
        request.ids["room_id"],
        acting_user_id(request, draft.get("user_id")),
        draft["content"],
        client_msg_id=draft.get("client_msg_id"),
        metadata=draft.get("metadata"),
        hide_private=request.token_user_id is not None,
        idempotency=request.idempotency(body),
    )
    return created(message)


async def edit(request: Request) -> Response:
    body = validation.fields(await request.body(), _EDIT, "content")
    return ok(
        await request.chat.edit(
            request.pid,
            request.ids["room_id"],
            request.ids["message_id"],
            body["content"],
            by=request.token_user_id,
        )
    )


async def delete(request: Request) -> Response:
    await request.chat.delete_message(
        request.pid, request.ids["room_id"], request.ids["message_id"], by=request.token_user_id
    )
    return NO_CONTENT
