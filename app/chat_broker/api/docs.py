"""`GET /docs`: the OpenAPI description as a page, without scripts or other resources."""

import json
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter()

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}
summary{cursor:pointer}code{font-family:ui-monospace,monospace}b{display:inline-block;width:4.5rem}
pre{overflow:auto;padding:1rem;border:1px solid #8884;border-radius:.5rem}h2{text-transform:capitalize}"""


@router.get("/docs", response_model=None, include_in_schema=False)
async def page(request: Request) -> HTMLResponse:
    """Every route, with its parameters, body and responses."""
    description = request.app.openapi()
    answer = HTMLResponse(written(description))
    answer.headers["Content-Security-Policy"] = _POLICY
    return answer


def written(description: dict[str, Any]) -> str:
    """The page for an OpenAPI *description*."""
    title = escape(description["info"]["title"])
    groups: dict[str, list[str]] = {}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            group = (operation.get("tags") or ["other"])[0]
            groups.setdefault(group, []).append(_route(method.upper(), path, operation))
    parts = [f"<h2>{escape(group)}</h2>\n" + "\n".join(routes) for group, routes in groups.items()]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f'<h1>{title}</h1><p>For machines: <a href="/openapi.json">/openapi.json</a></p>'
        + "\n".join(parts)
    )


def _route(method: str, path: str, operation: dict[str, Any]) -> str:
    about = escape(operation.get("description") or operation.get("summary") or "")
    shown = {
        name: operation[name]
        for name in ("parameters", "requestBody", "responses")
        if name in operation
    }
    text = escape(json.dumps(shown, indent=2))
    return (
        f"<details><summary><b>{method}</b> <code>{escape(path)}</code> {about}</summary>"
        f"<pre>{text}</pre></details>"
    )
