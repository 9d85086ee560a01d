"""The program as an operator runs it: start, refused start, requests, stop."""

import asyncio
import json
import socket
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from chat_broker.main import VERSION
from tests.app.brokers import API_KEY
from tests.app.test_leaks import ADMIN_KEY, leaked
from tests.programs import Program, free_port, run_command, running_broker

DEVELOPMENT = {"ENVIRONMENT": "development", "AUTH": "dev"}


async def chat_a_little(broker: Program) -> tuple[str, str]:
    """Sign in and mint one token; the credentials of both."""
    async with httpx.AsyncClient(base_url=broker.url, trust_env=False) as http:
        signed_in = await http.post("/dev/login", json={"username": "alice"})
        session = signed_in.json()["token"]
        headers = {"authorization": f"Bearer {session}", "x-request-id": "from-the-test-1"}
        token = (await http.post("/chat/token", headers=headers)).json()["token"]
        await http.get("/chat/verify", headers={"authorization": f"Bearer {token}"})
        await http.get("/chat/rooms?page=secret-in-query", headers=headers)
        await http.get("/chat/%0d%0aInjected/%1b[31m", headers=headers)
    return session, token


@pytest.mark.parametrize("form", ["json", "console"])
async def test_the_log_has_a_line_per_request_and_no_secret(form: str) -> None:
    """The log has ids, paths and statuses, but no query, credential or forged line; /proc holds no secret."""
    async with running_broker(
        CHAT_API_KEY=API_KEY, ADMIN_KEY=ADMIN_KEY, LOG_FORMAT=form, LOG_LEVEL="DEBUG"
    ) as broker:
        session, token = await chat_a_little(broker)
        for name in ("environ", "cmdline"):
            seen = Path(f"/proc/{broker.process.pid}/{name}").read_bytes().decode("latin-1")  # noqa: ASYNC240 - no disk
            assert leaked(seen) == [], name
        limits = Path(f"/proc/{broker.process.pid}/limits").read_text()  # noqa: ASYNC240 - no disk
        assert "Max core file size        0                    0" in limits
    log = broker.log()
    assert leaked(log) == []
    for private in (session, session[8:40], token, token[80:120], "secret-in-query", "\x1b[31m"):
        assert private not in log
    assert "\nInjected" not in log
    assert "from-the-test-1" in log
    if form == "json":
        lines = [line for line in log.splitlines() if line.startswith("{")]
        requests = [one for one in map(json.loads, lines) if one.get("event") == "request"]
        minted = [one for one in requests if one["route"] == "/chat/token"]
        assert [(one["status"], one["request_id"]) for one in minted] == [(200, "from-the-test-1")]
        assert set(minted[0]) >= {"method", "path", "ms", "address", "timestamp", "level"}


async def test_it_says_how_to_try_it_and_the_lines_work(tmp_path: Path) -> None:
    """The printed shell lines, run as they are, make a user, a token, a room and a message."""
    async with running_broker(tmp_path) as broker:
        said = broker.log()
        lines = said[said.index("  # sign in as alice") :].split("\n\n")[0]
        process = await asyncio.create_subprocess_shell(
            lines, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, errors = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, errors
        assert b'"token":"' in out
        assert out.count(b'"content":"Hello!"') == 2


@pytest.mark.parametrize("program", ["chat-broker", "chat-server", "chat-broker-sdk"])
async def test_each_program_says_its_version(program: str) -> None:
    """`--version` prints the version of the distribution with any settings."""
    code, out, errors = await run_command(program, "--version", environment={"PORT": "x"})
    assert (code, out) == (0, f"{program} {version('chat-broker')}\n"), errors
    assert version("chat-broker") == VERSION


@pytest.mark.parametrize("command", [["serve"], ["check-config"]])
async def test_it_refuses_to_start_and_names_every_problem(command: list[str]) -> None:
    """Exit code 2, all problems at once on standard error, no secret among them."""
    code, out, errors = await run_command(
        "chat-broker",
        *command,
        environment={
            "AUTH": "dev,jwt", "PORT": "0", "CORS_ORIGINS": "*", "ADMIN_KEY": "short-canary-key", "WORKERS": "2",
            "RATE_READ": "often", "TRUSTED_PROXIES": "10.0.0.0/99", "CHAT_BASE_URL": "http://chat.example.com",
            "AUTH_JWT_SECRET": "change-me-please-canary", "DATABASE_URL": "mysql://u:pw-canary@h/d", "LOG_LEVEL": "LOUD",
        },
    )  # fmt: skip
    assert code == 2
    assert out == ""
    for name in (
        "AUTH:", "PORT:", "CORS_ORIGINS:", "ADMIN_KEY:", "REDIS_URL:", "RATE_READ:", "TRUSTED_PROXIES:", "CHAT_BASE_URL:",
        "AUTH_JWT_ISSUER:", "AUTH_JWT_AUDIENCE:", "AUTH_JWT_SECRET:", "DATABASE_URL:", "LOG_LEVEL:",
    ):  # fmt: skip
        assert f"  {name}" in errors, (name, errors)
    assert "canary" not in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({}, "AUTH:"),
        ({"AUTH": "dev"}, "AUTH:"),
        ({**DEVELOPMENT, "ADMIN_KEY": "x" * 31}, "ADMIN_KEY:"),
        ({**DEVELOPMENT, "CORS_ORIGINS": "*"}, "CORS_ORIGINS:"),
        ({**DEVELOPMENT, "CORS_ORIGINS": "https://a.example/path"}, "CORS_ORIGINS:"),
        ({**DEVELOPMENT, "WORKERS": "2", "REDIS_URL": "redis://x"}, "DATABASE_URL:"),
        ({**DEVELOPMENT, "WORKERS": "2", "DATABASE_URL": "postgresql://x/y", "CHAT_DATABASE_URL": "postgresql://x/z"}, "REDIS_URL:"),
        ({**DEVELOPMENT, "CHAT_BASE_URL": "https://x.example"}, "CHAT_API_KEY:"),
        ({**DEVELOPMENT, "CHAT_BASE_URL": "https://u:p@x.example", "CHAT_API_KEY": "k"}, "CHAT_BASE_URL:"),
        ({**DEVELOPMENT, "ROUTE_PREFIX": "/admin/x"}, "ROUTE_PREFIX:"),
        ({**DEVELOPMENT, "ROUTE_PREFIX": "chat"}, "ROUTE_PREFIX:"),
        ({**DEVELOPMENT, "TOKEN_TTL": "3601"}, "TOKEN_TTL:"),
        ({**DEVELOPMENT, "EXPOSE_USER_FIELDS": "email"}, "EXPOSE_USER_FIELDS:"),
        ({**DEVELOPMENT, "ADMIN_PORT": "8000"}, "ADMIN_PORT:"),
        ({"AUTH": "header", "AUTH_HEADER_SECRET": "change-me-now", "AUTH_HEADER_TRUSTED_PROXIES": "10.0.0.0/8"}, "AUTH_HEADER_SECRET:"),
    ],
    ids=str,
)  # fmt: skip
async def test_what_would_not_run_is_refused(environment: dict[str, str], problem: str) -> None:
    code, _, errors = await run_command("chat-broker", "check-config", environment=environment)
    assert (code, problem in errors) == (2, True), errors


async def test_check_config_shows_every_setting_and_no_secret(tmp_path: Path) -> None:
    """A secret read from a file is not logged either."""
    (tmp_path / "admin_key").write_text(ADMIN_KEY + "\n")
    code, out, errors = await run_command(
        "chat-broker",
        "check-config",
        environment={**DEVELOPMENT, "SECRETS_DIR": str(tmp_path), "CHAT_API_KEY": API_KEY},
    )
    assert code == 0, errors
    from chat_broker.settings import Settings

    for name in Settings.model_fields:
        assert name.upper() in out
    assert out.count("(hidden)") == 2
    assert leaked(out + errors) == []


async def test_with_an_admin_port_each_port_has_its_own_routes(tmp_path: Path) -> None:
    """With ADMIN_PORT, /chat is on PORT; /admin, /metrics and docs on ADMIN_PORT; health on both."""
    admin_port = free_port()
    async with (
        running_broker(tmp_path, ADMIN_PORT=str(admin_port), ADMIN_KEY=ADMIN_KEY) as broker,
        httpx.AsyncClient(trust_env=False) as http,
    ):

        async def status(base: str, path: str) -> int:
            return (await http.get(base + path)).status_code

        admin = f"http://127.0.0.1:{admin_port}"
        for path, here, there in (
            ("/healthz", 200, 200), ("/readyz", 200, 200), ("/chat/me", 401, 404), ("/admin/status", 404, 401),
            ("/metrics", 404, 200), ("/openapi.json", 404, 200), ("/docs", 404, 200), ("/.well-known/jwks.json", 200, 404),
            ("/socket.io/?EIO=4&transport=polling", 200, 404), ("/dev/login", 405, 404),
        ):  # fmt: skip
            assert (await status(broker.url, path), await status(admin, path)) == (here, there), (
                path
            )


async def test_one_port_and_production_show_no_docs(tmp_path: Path) -> None:
    """In production docs need DOCS; the Chat API's REST routes are never served."""
    secret = "x" * 32
    production = {
        "ENVIRONMENT": "production", "AUTH": "jwt", "AUTH_JWT_ISSUER": "https://i.example", "AUTH_JWT_AUDIENCE": "chat",
        "AUTH_JWT_SECRET": secret,
    }  # fmt: skip
    async with (
        running_broker(tmp_path, **production) as broker,
        httpx.AsyncClient(base_url=broker.url, trust_env=False) as http,
    ):
        for path in ("/docs", "/openapi.json", "/redoc", "/api/v1/project", "/dev/login"):
            assert (await http.get(path)).status_code == 404, path
        answer = await http.get("/chat/me")
        assert answer.status_code == 401
        assert "server" not in answer.headers
        assert "The broker is at" not in broker.log()


async def test_sigterm_lets_what_was_begun_end(tmp_path: Path) -> None:
    """A stop exits with 0 within the grace time, without a traceback, despite a half-sent request."""
    async with running_broker(tmp_path) as broker:
        await chat_a_little(broker)
        _, writer = await asyncio.open_connection("127.0.0.1", broker.port)
        writer.write(
            b"POST /dev/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
        )
        await writer.drain()
        try:
            assert await broker.stop(within=15) == 0
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
    assert "Traceback" not in broker.log()


async def test_a_slow_header_and_a_flood_of_headers_are_cut(tmp_path: Path) -> None:
    """A head has at most 32 KiB and 100 lines; an unfinished one is closed within 15 s."""
    async with (
        running_broker(tmp_path) as broker,
        httpx.AsyncClient(base_url=broker.url, trust_env=False) as http,
    ):
        many = await http.get("/healthz", headers={f"x-{number}": "y" for number in range(120)})
        assert many.status_code == 431
        long = await http.get("/healthz", headers={"x-long": "y" * 40_000})
        assert long.status_code == 431
        with socket.create_connection(("127.0.0.1", broker.port), timeout=15) as slow:
            slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")

            async def trickle() -> None:
                while True:
                    await asyncio.sleep(0.5)
                    slow.sendall(b"a")

            trickling = asyncio.create_task(trickle())
            answered = await asyncio.to_thread(slow.recv, 4096)
            trickling.cancel()
            await asyncio.gather(trickling, return_exceptions=True)
            assert answered.startswith(b"HTTP/1.1 408")
        assert (await http.get("/healthz")).status_code == 200
        with socket.create_connection(("127.0.0.1", broker.port), timeout=10) as endless:
            endless.sendall(b"GET / HTTP/1.1\r\n")
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                await asyncio.to_thread(_flood, endless)


def _flood(connection: socket.socket) -> None:
    for _ in range(1000):
        connection.sendall(b"X-A: " + b"b" * 65_000 + b"\r\n")
