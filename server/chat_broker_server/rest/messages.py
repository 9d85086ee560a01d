"""Routes about messages."""

from chat_broker_server.chat import sizes, validation
from chat_broker_server.chat.validation import MAX_SEQ
from chat_broker_server.errors import BadInput
from chat_broker_server.rest.request import (
    NO_CONTENT,
    Call,
    Reply,
    created,
    limit_of,
    number,
    ok,
    page_of,
)
from chat_broker_server.rest.rooms import inside, who

_EDIT = {"content": validation.content}


async def listed(call: Call) -> Reply:
    """GET …/messages: by page, or next to a cursor."""
    query = call.query("page", "limit", "before", "after")
    room_id = call.ids["room_id"]
    if "before" not in query and "after" not in query:
        page, limit = page_of(query, walked=False)
        await inside(call)
        return ok(await call.chat.messages_page(call.pid, room_id, page=page, limit=limit))
    if "page" in query:
        raise BadInput.field("page", "cannot be combined with before or after")
    limit = limit_of(query)
    before = number(query, "before", 1, MAX_SEQ, 1) if "before" in query else None
    after = number(query, "after", 0, MAX_SEQ, 0) if "after" in query else None
    await inside(call)
    found = await call.chat.messages_between(
        call.pid, room_id, before=before, after=after, limit=limit
    )
    reply = ok(found)
    return reply if len(reply.body) <= sizes.LARGEST_ANSWER else ok(sizes.shortened(found))


async def post(call: Call) -> Reply:
    """POST …/messages"""
    body = await call.body()
    draft = validation.fields(body, validation.MESSAGE, "content")
    message = await call.chat.post(
        call.pid,
        call.ids["room_id"],
        who(call, draft.get("user_id")),
        draft["content"],
        client_msg_id=draft.get("client_msg_id"),
        metadata=draft.get("metadata"),
        hide_private=call.asker is not None,
        idempotency=call.idempotency(body),
    )
    return created(message)


async def edit(call: Call) -> Reply:
    """PATCH …/messages/{message_id}"""
    body = validation.fields(await call.body(), _EDIT, "content")
    return ok(
        await call.chat.edit(
            call.pid,
            call.ids["room_id"],
            call.ids["message_id"],
            body["content"],
            by=call.asker,
        )
    )


async def delete(call: Call) -> Reply:
    """DELETE …/messages/{message_id}"""
    await call.chat.delete_message(
        call.pid, call.ids["room_id"], call.ids["message_id"], by=call.asker
    )
    return NO_CONTENT
