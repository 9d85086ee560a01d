"""The audit log: page by page, or as an export that can be verified without the broker."""

from collections.abc import AsyncIterator

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from chat_broker.admin.audit_log import AuditChain, AuditRecord, AuditSearch
from chat_broker.admin.keys import AdminScope
from chat_broker.admin.requests import AUDIT_QUERY, read_audit_search
from chat_broker.admin.routes.router import (
    admin_router,
    admin_services,
    audit_context,
    described,
    needs,
    query_of,
)
from chat_broker.api.responses import as_json
from chat_broker.chat.views import encode

router = admin_router("admin: audit")

NDJSON = "application/x-ndjson"
BATCH = 500


@router.get("/audit", **described(answer={"type": "object"}))
@needs(AdminScope.AUDIT_READ, "audit.read", AUDIT_QUERY)
async def read_audit(request: Request) -> Response:
    """Audit records: newest first, page by page; or as NDJSON, oldest first, with their hashes."""
    query, services = query_of(request), admin_services(request)
    export = NDJSON in request.headers.get("accept", "")
    search, after = read_audit_search(query, export=export)
    context = audit_context(request)
    context.detail |= {name: text for name, text in query.items() if name != "cursor"}
    if export:
        context.detail["export"] = True
        return await _export(services.chain, search, after)
    pending = [] if search.before else await services.trail.open_folds()
    chained = await services.chain.find(search)
    more = len(chained) == search.limit
    records = [record for record in pending if _matches(record, search)]
    records += [each.record for each in chained]
    return as_json(
        {
            "items": [record.to_dict() for record in records],
            "next_cursor": f"before-{chained[-1].seq}" if more else None,
        }
    )


async def _export(chain: AuditChain, search: AuditSearch, after: int) -> Response:
    length = await chain.length()
    # The first batch is read before the response starts, so that a failure is a 503, not half a file.
    first = await chain.after(after, min(BATCH, search.limit), search)

    async def lines() -> AsyncIterator[bytes]:
        batch, left = first, search.limit
        # Records written after the length was read are left out, so that it is the export's length.
        while records := [record for record in batch if record.seq <= length]:
            yield b"".join(encode(record.to_dict()) + b"\n" for record in records)
            left -= len(records)
            if left <= 0 or len(batch) < BATCH:
                break
            batch = await chain.after(batch[-1].seq, min(BATCH, left), search)

    return StreamingResponse(lines(), media_type=NDJSON, headers={"X-Audit-Length": str(length)})


def _matches(record: AuditRecord, search: AuditSearch) -> bool:
    """Whether a pending record matches, by the conditions of `AuditChain.find`."""
    noun, _, verb = record.action.rpartition(".")
    return (
        search.actor in {None, record.actor}
        and search.action in {None, record.action, noun, verb}
        and search.subject is None
        and (search.since is None or record.at >= search.since)
        and (search.until is None or record.at < search.until)
    )
