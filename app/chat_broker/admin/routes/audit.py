"""The audit trail: searched page by page, or exported so that anybody can check it."""

from collections.abc import AsyncIterator

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from chat_broker.admin.audit_log import Chain, Record, Search
from chat_broker.admin.keys import Scope
from chat_broker.admin.requests import AUDIT_QUERY, read_audit_search
from chat_broker.admin.routes.router import admin_router, described, needs, operators, this_call
from chat_broker.api.requests import read_query
from chat_broker.api.responses import as_json
from chat_broker.chat.views import encode

router = admin_router("admin: audit")

NDJSON = "application/x-ndjson"
BATCH = 500


@router.get("/audit", **described(answer={"type": "object"}))
@needs(Scope.AUDIT_READ, "audit.read")
async def read_audit(request: Request) -> Response:
    """Who did what: newest first, page by page; as NDJSON oldest first, with what `verify` needs."""
    query = read_query(request.scope["query_string"], AUDIT_QUERY)
    export = NDJSON in request.headers.get("accept", "")
    search, after = read_audit_search(query, export=export)
    call = this_call(request)
    call.detail |= {name: text for name, text in query.items() if name != "cursor"}
    if export:
        call.detail["export"] = True
        return await _export(operators(request).chain, search, after)
    trail = operators(request).trail
    going_on = (
        [] if search.before else [one for one in await trail.open_folds() if _is(one, search)]
    )
    links = await operators(request).chain.find(search)
    more = len(links) == search.limit
    return as_json(
        {
            "items": [
                *(one.to_dict() for one in going_on),
                *(link.record.to_dict() for link in links),
            ],
            "next_cursor": f"before-{links[-1].seq}" if more else None,
        }
    )


async def _export(chain: Chain, search: Search, after: int) -> Response:
    length = await chain.length()
    # The first batch is read before the answer begins: what cannot be read is a 503, not half a file.
    first = await chain.after(after, min(BATCH, search.limit), search)

    async def lines() -> AsyncIterator[bytes]:
        links, left = first, search.limit
        # What was written since the length was read belongs to the next export: the two go together.
        while told := [link for link in links if link.seq <= length]:
            yield b"".join(encode(link.to_dict()) + b"\n" for link in told)
            left -= len(told)
            if left <= 0 or len(links) < BATCH:
                break
            links = await chain.after(links[-1].seq, min(BATCH, left), search)

    return StreamingResponse(lines(), media_type=NDJSON, headers={"X-Audit-Length": str(length)})


def _is(record: Record, search: Search) -> bool:
    """The same search, for a record that is not in the chain yet."""
    noun, _, verb = record.action.rpartition(".")
    return (
        search.actor in {None, record.actor}
        and search.action in {None, record.action, noun, verb}
        and search.subject is None
        and (search.since is None or record.at >= search.since)
        and (search.until is None or record.at < search.until)
    )
