from typing import Any

import msgspec

from chat_broker_server.chat import sizes, system_messages, validation
from chat_broker_server.chat.lookups import MOST_IDS
from chat_broker_server.chat.messages import More
from chat_broker_server.chat.models import Page, ReadMessage
from chat_broker_server.chat.validation import MAX_SEQ
from chat_broker_server.errors import BadInput, Forbidden
from chat_broker_server.rest import own_reactions
from chat_broker_server.rest.request import (
    NO_CONTENT,
    Request,
    Response,
    checked,
    created,
    number,
    ok,
    page_and_limit,
    page_limit,
)
from chat_broker_server.rest.rooms import (
    CURSOR,
    acting_user_id,
    first_seq,
    require_reader,
    viewer_id,
)

_AROUND_ITEMS = 100  # bytes of a page, at most
_EDIT = {
    "content": validation.content,
    "metadata": validation.metadata,
    "mentions": validation.mentioned,
    "if_rev": validation.optional(validation.seq),
    "user_id": validation.optional(validation.identifier),
}
_YES_NO = validation.one_of("true", "false")
_PLAIN = frozenset({"content", "user_id", "client_msg_id", "metadata"})
_NOTHING_MORE = More()


async def list_all(request: Request) -> Response:
    """GET …/messages: a numbered page, or the messages with some ids, around a `seq`, or next to the cursor `before` or `after`."""
    query = request.query(
        *("page", "limit", "before", "after", "ids", "around", "from_seq", "viewer_id")
    )
    room_id = request.ids["room_id"]
    if "ids" in query:
        return await _list_by_id(request, query)
    if "around" in query:
        return await _list_around(request, query)
    if "before" not in query and "after" not in query:
        page, limit = page_and_limit(query, bounded=False)
        from_seq = await first_seq(request, query)
        numbered = await request.chat.messages_page(
            request.pid, room_id, page=page, limit=limit, from_seq=from_seq
        )
        return ok(await _with_own_reactions(request, query, numbered))
    if "page" in query:
        raise BadInput.field("page", "cannot be combined with before or after")
    limit = page_limit(query)
    before = number(query, "before", 1, MAX_SEQ, 1) if "before" in query else None
    after = number(query, "after", 0, MAX_SEQ, 0) if "after" in query else None
    from_seq = await first_seq(request, query)
    page_of_messages = await request.chat.messages_between(
        request.pid, room_id, before=before, after=after, limit=limit, from_seq=from_seq
    )
    page_of_messages = await _with_own_reactions(request, query, page_of_messages)
    response = ok(page_of_messages)
    if len(response.body) > sizes.LARGEST_RESPONSE:
        response = ok(sizes.shortened(page_of_messages))
    return response


async def _with_own_reactions(request: Request, query: dict[str, str], page: Page) -> Page:
    return await own_reactions.add(request, viewer_id(request, query), page, page.items)


def _refuse_others(query: dict[str, str], *known: str) -> None:
    for other in query:
        if other not in known:
            raise BadInput.field(other, f"cannot be combined with {known[0]}")


async def _list_by_id(request: Request, query: dict[str, str]) -> Response:
    _refuse_others(query, "ids", "from_seq", "viewer_id")
    asked = list(dict.fromkeys(query["ids"].split(",")))
    if len(asked) > MOST_IDS or not all(map(validation.ID.fullmatch, asked)):
        raise BadInput.field("ids", f"must be at most {MOST_IDS} ids, with commas between them")
    from_seq = await first_seq(request, query)
    found = await request.chat.messages_by_id(
        request.pid, request.ids["room_id"], asked, from_seq=from_seq
    )
    if not found:
        await request.chat.get_room(request.pid, request.ids["room_id"])
    items = sizes.fitting(found, sizes.LARGEST_RESPONSE - _AROUND_ITEMS)
    page = Page.of(items, 1, MOST_IDS, len(found))
    page = msgspec.structs.replace(page, has_more=len(items) < len(found))
    return ok(await _with_own_reactions(request, query, page))


async def _list_around(request: Request, query: dict[str, str]) -> Response:
    _refuse_others(query, "around", "limit", "from_seq", "viewer_id")
    wanted = number(query, "around", 1, MAX_SEQ, 1)
    limit = page_limit(query)
    from_seq = await first_seq(request, query)
    page = await request.chat.messages_around(
        request.pid, request.ids["room_id"], wanted, limit=limit, from_seq=from_seq
    )
    page = await _with_own_reactions(request, query, page)
    response = ok(page)
    if len(response.body) > sizes.LARGEST_RESPONSE:
        response = ok(sizes.shortened_around(page, wanted))
    return response


async def get(request: Request) -> Response:
    query = request.query("from_seq", "viewer_id")
    reader_id = viewer_id(request, query)
    from_seq = await first_seq(request, query)
    message = await request.chat.message(
        request.pid, request.ids["room_id"], request.ids["message_id"], from_seq=from_seq
    )
    if reader_id is not None:
        own = await request.chat.own_reactions(request.pid, reader_id, [message])
        if own:
            return ok(ReadMessage(**msgspec.structs.asdict(message), mine=own))
    return ok(message)


async def receipts(request: Request) -> Response:
    """GET …/messages/{message_id}/receipts: who has read a message, and whom it has reached."""
    query = request.query("member_id")
    member_id = checked(query, "member_id", validation.identifier)
    from_seq = await require_reader(request, member_id)
    return ok(
        await request.chat.message_receipts(
            request.pid,
            request.ids["room_id"],
            request.ids["message_id"],
            reader_id=request.token_user_id or member_id,
            from_seq=from_seq,
        )
    )


async def post(request: Request) -> Response:
    body = await request.body()
    draft = _draft(request, body)
    message = await request.chat.post(
        request.pid,
        request.ids["room_id"],
        acting_user_id(request, draft.get("user_id")),
        draft["content"],
        client_msg_id=draft.get("client_msg_id"),
        metadata=draft.get("metadata"),
        more=_more(draft),
        hide_private=request.token_user_id is not None,
        idempotency=request.idempotency(body),
    )
    return created(message)


def _draft(request: Request, body: Any) -> dict[str, Any]:
    """The checked fields of a new message. Raises BadInput, or Forbidden for a user's system message."""
    is_system = type(body) is dict and ("type" in body or "event" in body)
    if not is_system:
        return validation.fields(body, validation.MESSAGE, "content")
    if request.token_user_id is not None:
        raise Forbidden("api_key_required", "System messages need the project's API key.")
    draft = validation.fields(body, validation.SYSTEM_MESSAGE)
    event = draft.get("event")
    if draft.get("type") == "system" and event is None:
        raise BadInput.field("event", "is required in a system message")
    if draft.get("type") != "system" and event is not None:
        raise BadInput.field("event", "goes with the type system alone")
    if "content" not in draft:
        if event is None:
            raise BadInput.field("content", "is required")
        draft["content"] = system_messages.named(event["name"])
    return draft


def _more(draft: dict[str, Any]) -> More | None:
    """What *draft* has that most messages have not."""
    if draft.keys() <= _PLAIN:
        return None
    more = More(
        draft.get("reply_to"),
        draft.get("mentions") or (),
        draft.get("mention_room", False),
        draft.get("silent", False),
        draft.get("event"),
    )
    return None if more == _NOTHING_MORE else more


async def edit(request: Request) -> Response:
    body = validation.fields(await request.body(), _EDIT)
    if body.keys() <= {"if_rev", "user_id"}:
        raise BadInput(
            message="There is nothing to change: send content, metadata, mentions or some of them."
        )
    by = _by(request, body.get("user_id"))
    return ok(
        await request.chat.edit(
            request.pid,
            request.ids["room_id"],
            request.ids["message_id"],
            body.get("content"),
            metadata=body.get("metadata"),
            mentions=body.get("mentions"),
            if_rev=body.get("if_rev"),
            by=by,
        )
    )


async def delete(request: Request) -> Response:
    query = request.query("purge", "user_id")
    purge = checked(query, "purge", _YES_NO) == "true"
    if purge and request.token_user_id is not None:
        raise Forbidden("api_key_required", "Purging a message needs the project's API key.")
    user_id = checked(query, "user_id", validation.identifier)
    await request.chat.delete_message(
        request.pid,
        request.ids["room_id"],
        request.ids["message_id"],
        by=_by(request, user_id),
        purge=purge,
    )
    return NO_CONTENT


def _by(request: Request, named: str | None) -> str | None:
    """Who changes a message: the token's user, or the one whom the API key names; None: the API key, which may all."""
    if request.token_user_id is None:
        return named
    return acting_user_id(request, named)


async def list_mentions(request: Request) -> Response:
    """GET …/users/{user_id}/mentions: messages that name the user, newest first."""
    query = request.query("cursor", "limit")
    return ok(
        await request.chat.mentions(
            request.pid,
            request.ids["user_id"],
            cursor=checked(query, "cursor", CURSOR),
            limit=page_limit(query),
        )
    )
