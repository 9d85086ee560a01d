"""`GET /` in development: what this broker is and how to try it. One document, without scripts or other resources."""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from chat_broker.http.client_address import Proxies
from chat_broker.pages.commands import commands
from chat_broker.settings import Settings

_HERE = Path(__file__).parent


def home_router(settings: Settings, proxies: Proxies) -> APIRouter:
    """The route of the page. For development only: it describes the configuration to anyone."""
    router = APIRouter()

    @router.get("/", response_model=None, include_in_schema=False)
    async def home(request: Request) -> HTMLResponse:
        """The broker's configuration, its links, and commands to try it."""
        base = settings.public_url or proxies.origin(request.scope) or _listening(settings)
        answer = HTMLResponse(written(settings, base))
        answer.headers["Content-Security-Policy"] = _files()[2]
        return answer

    return router


def written(settings: Settings, base: str) -> str:
    """The page for a broker at the address *base*."""
    page, style, _ = _files()
    is_dev = "dev" in settings.auth
    chat = base + settings.route_prefix
    example = _EXAMPLE.substitute(base=escape(base)) if is_dev else ""
    return page.substitute(
        style=style,
        base=escape(base),
        greeting="Anyone can sign in under any name."
        if is_dev
        else "Its users are those of your app.",
        facts="\n".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in _facts(settings)),
        links="\n".join(_links(settings, base)),
        shell=escape(commands(base, chat) if is_dev else _TOKEN.substitute(chat=chat)),
        example=example,
    )


def _facts(settings: Settings) -> list[tuple[str, str]]:
    upstream = urlsplit(settings.chat_base_url).hostname if settings.chat_base_url else None
    admin = "<code>/admin</code>"
    if settings.admin_port is not None:
        admin += f", on port {settings.admin_port}"
    if settings.admin_key is None:
        admin += "; <code>ADMIN_KEY</code> is not set"
    return [
        ("routes for frontends", f"<code>{escape(settings.route_prefix)}</code>"),
        ("live events", "<code>/socket.io</code>" if upstream is None else "at the Chat API"),
        ("admin API", admin),
        ("sign-in", f"<code>AUTH={escape(','.join(settings.auth))}</code>"),
        ("Chat API", "embedded" if upstream is None else f"<code>{escape(upstream)}</code>"),
        ("allowed origins", escape(", ".join(settings.cors_origins)) or "its own"),
    ]  # fmt: skip


def _links(settings: Settings, base: str) -> list[str]:
    """Links to the routes for browsers. With ADMIN_PORT, operators' routes are only there."""
    operators = base
    if settings.admin_port is not None:
        scheme, _, host = base.partition("://")
        operators = f"{scheme}://{host.removesuffix(f':{settings.port}')}:{settings.admin_port}"
    places = [("/healthz", base, "is the process alive"), ("/readyz", base, "is everything it needs there"), ("/metrics", operators, "numbers for Prometheus")]  # fmt: skip
    if settings.docs_shown:
        places.insert(0, ("/docs", operators, "every route"))
        places.insert(1, ("/openapi.json", operators, "the routes, for tools"))
    if settings.embedded:
        places.append(("/.well-known/jwks.json", base, "keys that verify chat tokens"))
    return [
        f'<li><a href="{escape(host)}{path}">{path}</a> <span>{about}</span>'
        for path, host, about in places
    ]


def _listening(settings: Settings) -> str:
    return f"http://{settings.host}:{settings.port}"


@cache
def _files() -> tuple[Template, str, str]:
    """Document, style, and the content security policy that allows only this style."""
    style = (_HERE / "home.css").read_text()
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
    return Template((_HERE / "home.html").read_text()), style, policy


_TOKEN = Template("""# with a credential of your app
curl -s -X POST $chat/token -H "Authorization: Bearer …\"""")

_EXAMPLE = Template("""\
  <section aria-labelledby="browser" class="wide">
    <h2 id="browser">Try it in a browser</h2>
    <p>Stop the broker, and start it so that a page of another origin may call it. Then serve the example:</p>
    <pre tabindex="0"><code>CORS_ORIGINS=http://localhost:5173 make run

# in a second terminal
npm install --prefix examples/browser
python3 -m http.server 5173 --directory examples/browser</code></pre>
    <p>Open <a href="http://localhost:5173/?broker=$base">http://localhost:5173</a> twice, and sign in as two people.</p>
  </section>""")
