"""`chat-server` as an operator meets it: commands, signals, crashes, logs, metrics, browsers."""

import asyncio
import json
import re
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.servers import ChatApi, in_room, refused, standalone
from tests.programs import free_port, run_command, running_server


async def command(folder: Path, *arguments: str, **more: str) -> tuple[int, str, str]:
    """Run `chat-server` with *arguments* on the data in *folder*."""
    return await run_command(
        "chat-server", *arguments, environment={"DATA_DIR": str(folder), **more}
    )


async def created(folder: Path, **more: str) -> tuple[str, str]:
    """A new project: its id and its key."""
    code, out, err = await command(folder, "create-project", "--name", "A shop", "--json", **more)
    assert code == 0, err
    made = json.loads(out)
    assert set(made) == {"project_id", "name", "api_key"}
    return made["project_id"], made["api_key"]


async def test_create_project_prints_its_key_alone_on_the_last_line(tmp_path: Path) -> None:
    """And nothing else goes to standard output in JSON."""
    code, out, _ = await command(tmp_path, "create-project", "--name", "Shop")
    assert code == 0
    assert re.fullmatch(r"ck_[A-Za-z0-9_-]{40,}", out.rstrip("\n").splitlines()[-1])
    assert out.count("ck_") == 1
    for name in ("", " ", "x" * 129, "two\nlines"):
        code, _, err = await command(tmp_path, "create-project", "--name", name)
        assert code == 2
        assert "name" in err


async def test_keys_are_listed_made_and_revoked_while_the_server_runs(tmp_path: Path) -> None:
    """A new key is good at once, a revoked one bad at once; no list shows a secret."""
    async with (
        running_server(tmp_path) as program,
        httpx.AsyncClient(base_url=program.url, trust_env=False) as http,
    ):
        pid, first = await created(tmp_path)
        code, out, _ = await command(tmp_path, "keys", "create", pid, "--name", "worker")
        assert code == 0
        second = out.strip().splitlines()[-1]

        async def status(key: str) -> int:
            return (await http.get("/api/v1/project", headers={"X-API-Key": key})).status_code

        assert [await status(key) for key in (first, second)] == [200, 200]
        _, listed, _ = await command(tmp_path, "keys", "list", pid, "--json")
        shown = json.loads(listed)
        assert [key["name"] for key in shown] == ["first", "worker"]
        assert first not in listed
        assert second not in listed
        code, _, _ = await command(tmp_path, "keys", "revoke", shown[0]["id"])
        assert code == 0
        assert [await status(key) for key in (first, second)] == [401, 200]
        for arguments in (
            ["keys", "list", "no"],
            ["keys", "revoke", "no"],
            ["keys", "create", "no"],
        ):
            code, _, err = await command(tmp_path, *arguments)
            assert code == 2
            assert "There is no" in err


async def test_projects_and_all_keys_are_listed(tmp_path: Path) -> None:
    """Nobody has to know an id beforehand."""
    first, _ = await created(tmp_path)
    second, _ = await created(tmp_path)
    code, out, _ = await command(tmp_path, "projects", "list", "--json")
    assert code == 0
    shown = [(one["id"], one["name"], one["keys"]) for one in json.loads(out)]
    assert sorted(shown) == sorted([(first, "A shop", 1), (second, "A shop", 1)])
    _, out, _ = await command(tmp_path, "projects", "list")
    assert f"{first}  " in out
    for arguments, projects in (
        ([], {first, second}),
        (["--project", first], {first}),
        ([second], {second}),
    ):
        _, out, _ = await command(tmp_path, "keys", "list", *arguments, "--json")
        assert {key["project_id"] for key in json.loads(out)} == projects


COMMANDS = [
    ["rotate-signing-key"], ["projects", "list"], ["keys", "list"], ["keys", "create", "p"], ["keys", "revoke", "k"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
async def test_no_command_makes_a_database_where_one_stands(
    tmp_path: Path, arguments: list[str]
) -> None:
    """It says where there is none, and what to set; only `serve` and `create-project` make one."""
    code, out, err = await command(tmp_path / "elsewhere", *arguments)
    assert (code, out) == (2, "")
    assert (
        f"there is no database at {tmp_path}/elsewhere/chat.db; set DATA_DIR or CHAT_DATABASE_URL"
        in err
    )
    assert not await asyncio.to_thread((tmp_path / "elsewhere").exists)


@pytest.mark.services("postgres")
async def test_no_command_sets_up_an_empty_postgres(tmp_path: Path, postgres_url: str) -> None:
    code, _, err = await command(tmp_path, "rotate-signing-key", CHAT_DATABASE_URL=postgres_url)
    assert (code, "there is no database at postgresql://" in err) == (2, True), err


async def test_what_was_changed_is_said(tmp_path: Path) -> None:
    """The path of the database; beside the JSON, not in it."""
    code, out, _ = await command(tmp_path, "create-project", "--name", "Shop")
    assert (code, f"Database: {tmp_path}/chat.db\n" in out) == (0, True)
    _, out, err = await command(tmp_path, "rotate-signing-key", "--json")
    assert set(json.loads(out)) == {"kid"}
    assert err == f"Database: {tmp_path}/chat.db\n"
    _, out, _ = await command(tmp_path, "keys", "list", "--json")
    key_id = json.loads(out)[0]["id"]
    _, out, _ = await command(tmp_path, "keys", "revoke", key_id)
    assert f"Database: {tmp_path}/chat.db\n" in out


async def test_the_log_begins_with_what_is_probably_not_meant(tmp_path: Path) -> None:
    """A misspelt setting, and a database that is left behind for another one."""
    await created(tmp_path)
    more = {"TOKEN_TLL": "60", "CHAT_DATABASE_URL": f"sqlite:///{tmp_path}/other.db"}
    async with running_server(tmp_path, **more) as program:
        first, second = [json.loads(line) for line in program.log().splitlines()[:2]]
    assert first["hint"] == "TOKEN_TLL: there is no such setting; did you mean TOKEN_TTL?"
    assert f"{tmp_path}/other.db is used, and {tmp_path}/chat.db is left behind" in second["hint"]


async def test_a_rotated_signing_key_reaches_a_running_server(tmp_path: Path) -> None:
    """It signs with the new key within ten seconds; tokens of the old one stay good throughout."""
    async with standalone(tmp_path) as api:
        user = await api.user()
        old = await api.token(user)
        code, out, _ = await command(tmp_path, "rotate-signing-key", "--json")
        assert code == 0
        kid = json.loads(out)["kid"]
        deadline = time.monotonic() + 10
        while True:
            token = await api.token(user)
            keys = (await api.bare("GET", "/.well-known/jwks.json")).json()["keys"]
            for each in (old, token):
                answer = await api.as_user(each, "GET", "/api/v1/auth/verify")
                assert answer.status_code == 200
            if kid in {key["kid"] for key in keys}:
                break
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
        assert len(keys) == 2


async def test_bad_settings_are_all_named_and_exit_2(tmp_path: Path) -> None:
    """Every problem at once, on standard error, without the secrets in them."""
    code, out, err = await command(
        tmp_path,
        "serve",
        PORT="seventy",
        CHAT_DATABASE_URL="mysql://u:sesame@db/x",
        REDIS_URL="http://:sesame@x",
        CORS_ORIGINS="*",
        TOKEN_ALGORITHM="none",
        LOG_FORMAT="xml",
    )
    assert code == 2
    assert out == ""
    for name in (
        "PORT",
        "CHAT_DATABASE_URL",
        "REDIS_URL",
        "CORS_ORIGINS",
        "TOKEN_ALGORITHM",
        "LOG_FORMAT",
    ):
        assert name in err
    assert "sesame" not in err


async def test_a_database_that_cannot_be_opened_exits_2(tmp_path: Path) -> None:
    """Not there, or newer than this program: said plainly, and nothing listens."""
    url = "postgresql://u:sesame@127.0.0.1:1/none"
    code, _, err = await command(tmp_path, "serve", CHAT_DATABASE_URL=url)
    assert code == 2
    assert "sesame" not in err
    await created(tmp_path)
    raw = sqlite3.connect(tmp_path / "chat.db", isolation_level=None)
    raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    code, _, err = await command(tmp_path, "serve")
    assert code == 2
    assert "9999" in err


async def test_the_log_has_a_line_a_request_and_no_secret(tmp_path: Path) -> None:
    """Method, route, status, time, request id; no key, token, body, query, and one line each."""
    async with (
        running_server(tmp_path) as program,
        httpx.AsyncClient(base_url=program.url, trust_env=False) as http,
    ):
        pid, key = await created(tmp_path)
        api = ChatApi(http, key, pid)
        user = await api.user("logged", display_name="canary-name")
        room = await api.room(user)
        await api.say(room, user, "canary-content")
        token = await api.token(user)
        await api.as_user(token, "GET", "/api/v1/auth/verify")
        await api.send("GET", "/api/v1/projects/{pid}/users?q=canary-query")
        await api.send("GET", "/api/v1/x%0a%1b[31mforged", headers={"X-Request-ID": "my-request-1"})
        await api.bare("GET", "/api/v1/project", headers={"X-API-Key": "ck_canary-key"})
        assert await program.stop() == 0
        log = program.log()
        for secret in (key, token, token.split(".")[2], "canary", "PRIVATE KEY"):
            assert secret not in log, secret
        lines = [json.loads(line) for line in log.splitlines()]
        requests = [line for line in lines if line["event"] == "request"]
        assert {"/api/v1/projects/{pid}/rooms/{room_id}/messages", "/api/v1/auth/verify"} <= {
            line["route"] for line in requests
        }
        for line in requests:
            assert {"method", "path", "status", "ms", "request_id", "timestamp"} <= set(line)
        assert any(line["request_id"] == "my-request-1" for line in requests)


async def test_health_readiness_and_metrics(tmp_path: Path) -> None:
    """Public paths with fixed answers; metrics carry routes, and no ids."""
    async with standalone(tmp_path) as api:
        health = await api.bare("GET", "/healthz")
        assert (health.status_code, health.json()) == (200, {"status": "ok"})
        ready = await api.bare("GET", "/readyz")
        assert ready.json() == {"status": "ok", "database": "ok", "redis": "off"}
        user = await api.user()
        await api.send("GET", f"/api/v1/projects/{{pid}}/users/{user['id']}")
        metrics = (await api.bare("GET", "/metrics")).text
        assert 'route="/api/v1/projects/{pid}/users/{user_id}",status="200"' in metrics
        assert user["id"] not in metrics
        assert api.api_key not in metrics
        for path in ("/healthz", "/readyz", "/metrics"):
            refused_answer = await api.bare("POST", path)
            assert refused_answer.status_code == 405
            assert refused_answer.headers["allow"] == "GET, HEAD"
            head = await api.bare("HEAD", path)
            assert (head.status_code, head.content) == (200, b"")


async def test_browsers_of_listed_origins_alone_are_let_in(tmp_path: Path) -> None:
    """An exact list; nothing by default, and never a wildcard."""
    origin = "https://app.example.com"
    async with (
        running_server(tmp_path, CORS_ORIGINS=origin) as program,
        httpx.AsyncClient(base_url=program.url, trust_env=False) as http,
    ):
        preflight = {"Access-Control-Request-Method": "GET"}
        good = await http.options("/api/v1/project", headers={**preflight, "Origin": origin})
        assert good.status_code == 204
        assert good.headers["access-control-allow-origin"] == origin
        assert "authorization" in good.headers["access-control-allow-headers"].lower()
        assert "access-control-allow-credentials" not in good.headers
        called = await http.get("/api/v1/project", headers={"Origin": origin})
        assert called.status_code == 401
        assert called.headers["access-control-allow-origin"] == origin
        assert called.headers["vary"] == "Origin"
        exposed = called.headers["access-control-expose-headers"]
        assert exposed == "X-Request-ID, Retry-After, Idempotency-Replayed, WWW-Authenticate"
        for other in (
            "null",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.test",
            "https://APP.example.com",
        ):
            for answer in (
                await http.options("/api/v1/project", headers={**preflight, "Origin": other}),
                await http.get("/api/v1/project", headers={"Origin": other}),
            ):
                assert "access-control-allow-origin" not in answer.headers


async def test_pages_may_read_the_headers_that_are_sent(tmp_path: Path) -> None:
    """Each exposed header is one that a response has."""
    origin = {"Origin": "https://app.example.com"}
    limits = {"CORS_ORIGINS": origin["Origin"], "RATE_HANDSHAKES": "1"}
    async with (
        running_server(tmp_path, **limits) as program,
        httpx.AsyncClient(base_url=program.url, headers=origin, trust_env=False) as http,
    ):
        pid, key = await created(tmp_path)
        repeat = {"X-API-Key": key, "Idempotency-Key": "the-first-user"}
        poll = "/socket.io/?EIO=4&transport=polling"
        answers = [
            await http.get("/api/v1/project"),
            await http.get(poll),
            await http.get(poll),
            *[
                await http.post(
                    f"/api/v1/projects/{pid}/users",
                    json={"username": "amy", "external_user_id": "amy"},
                    headers=repeat,
                )
                for _ in range(2)
            ],
        ]
    assert [answer.status_code for answer in answers] == [401, 200, 429, 201, 201]
    exposed = answers[0].headers["access-control-expose-headers"].lower().split(", ")
    assert set(exposed) <= {name for answer in answers for name in answer.headers}


async def test_a_socket_opens_for_listed_origins_and_for_the_servers_own(tmp_path: Path) -> None:
    """Apps' own schemes letter for letter; the own address, as native clients send it, in any spelling."""
    poll = "/socket.io/?EIO=4&transport=polling"
    async with (
        running_server(
            tmp_path, CORS_ORIGINS="https://app.example.com,tauri://localhost"
        ) as program,
        httpx.AsyncClient(base_url=program.url, trust_env=False) as http,
    ):
        own = program.url.partition("//")[2]
        for origin, status in (
            ("https://app.example.com", 200),
            ("tauri://localhost", 200),
            ("Tauri://localhost", 403),
            (f"http://{own}", 200),
            (f"ws://{own}/", 200),
            (f"WS://{own}", 200),
            (f"wss://{own}", 200),  # TLS may end before the server
            ("http://127.0.0.1", 403),
            (f"http://{own}.evil.test", 403),
            ("https://evil.test", 403),
            ("null", 403),
        ):
            answer = await http.get(poll, headers={"Origin": origin})
            assert answer.status_code == status, origin
            if status == 403:
                assert "access-control-allow-origin" not in answer.headers


RAW_PATHS = ["..", ".", "%2e%2e", "%252e%252e%252f", "ünïcode", "a\\b", "%00", "..;", "%c0%ae"]


async def test_raw_paths_that_no_client_would_send_lead_nowhere(tmp_path: Path) -> None:
    """Clients tidy dots away before sending: here they arrive as they are."""
    async with standalone(tmp_path) as api:
        host, port = api.http.base_url.host, api.http.base_url.port
        for odd in RAW_PATHS:
            for path in (
                f"/api/v1/projects/{api.pid}/rooms/{odd}/messages",
                f"/api/v1/{odd}/project",
            ):
                reader, writer = await asyncio.open_connection(host, port)
                head = f"GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {api.api_key}\r\nConnection: close\r\n\r\n"
                writer.write(head.encode())
                answer = await reader.read()
                assert int(answer.split()[1]) in {400, 404}, (path, answer[:200])
                writer.close()
                await writer.wait_closed()


async def test_a_crash_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """kill -9 while eight write: after the restart each acknowledged message is there once, the
    numbers have no gap, the file is whole, and a revocation answered before it still holds."""
    acknowledged: dict[str, int] = {}
    enough = asyncio.Event()
    port = free_port()
    async with running_server(tmp_path, PORT=str(port)) as program:
        pid, key = await created(tmp_path)
        async with httpx.AsyncClient(base_url=program.url, trust_env=False) as http:
            api = ChatApi(http, key, pid)
            people = [await api.user("w") for _ in range(8)]
            room = await api.room(*people)
            token = await api.token(people[0])

            async def write(person: dict[str, Any]) -> None:
                for n in range(10_000):
                    mark = f"{person['id']}-{n}"
                    body = {"content": mark, "user_id": person["id"], "client_msg_id": mark}
                    try:
                        answer = await api.send("POST", f"{in_room(room)}/messages", json=body)
                    except httpx.TransportError:
                        return
                    acknowledged[mark] = answer.json()["seq"]
                    if len(acknowledged) >= 200:
                        enough.set()

            writers = [asyncio.ensure_future(write(person)) for person in people]
            await asyncio.wait_for(enough.wait(), 60)
            path = f"/api/v1/projects/{{pid}}/users/{people[0]['id']}/revoke"
            assert (await api.send("POST", path)).status_code == 200
            await program.kill()
            await asyncio.gather(*writers)
    raw = sqlite3.connect(tmp_path / "chat.db")
    assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    raw.close()
    async with (
        running_server(tmp_path) as program,
        httpx.AsyncClient(base_url=program.url, trust_env=False) as http,
    ):
        api = ChatApi(http, key, pid)
        stored, cursor = {}, 0
        while True:
            path = f"{in_room(room)}/messages?after={cursor}&limit=200"
            page = (await api.send("GET", path)).json()
            for item in page["items"]:
                assert item["content"] not in stored
                stored[item["content"]] = item["seq"]
            if not page["has_more"]:
                break
            cursor = page["next_cursor"]
        assert sorted(stored.values()) == list(range(1, len(stored) + 1))
        assert acknowledged.items() <= stored.items()
        refused(await api.as_user(token, "GET", "/api/v1/auth/verify"), 401, "token_revoked")
        again = await api.say(room, people[1], "on we go")
        assert again["seq"] == len(stored) + 1


async def test_sigterm_lets_a_running_request_finish(tmp_path: Path) -> None:
    """A write that is waiting for the file is answered, and then the server ends with 0."""
    async with (
        running_server(tmp_path) as program,
        httpx.AsyncClient(base_url=program.url, trust_env=False, timeout=20) as http,
    ):
        pid, key = await created(tmp_path)
        api = ChatApi(http, key, pid)
        raw = sqlite3.connect(tmp_path / "chat.db", isolation_level=None)
        raw.execute("BEGIN IMMEDIATE")
        writing = asyncio.ensure_future(api.user("late"))
        await asyncio.sleep(0.3)
        stopping = asyncio.ensure_future(program.stop())
        await asyncio.sleep(0.3)
        assert not stopping.done()
        raw.execute("COMMIT")
        raw.close()
        assert (await writing)["id"]
        assert await stopping == 0


@pytest.mark.services("postgres")
async def test_every_command_works_on_postgres(tmp_path: Path, postgres_url: str) -> None:
    """The database is the one that is named; nothing is written to the data folder."""
    more = {"CHAT_DATABASE_URL": postgres_url}
    pid, key = await created(tmp_path, **more)
    for arguments in (["keys", "list", pid], ["keys", "create", pid], ["rotate-signing-key"]):
        code, out, err = await command(tmp_path, *arguments, **more)
        assert code == 0, err
        assert out
    async with (
        running_server(tmp_path, **more) as program,
        httpx.AsyncClient(base_url=program.url, trust_env=False) as http,
    ):
        assert (await ChatApi(http, key, pid).user())["project_id"] == pid
    assert not await asyncio.to_thread(lambda: list(tmp_path.glob("*.db*")))


async def test_while_it_drains_all_goes_on_and_readyz_alone_says_that_it_ends(
    tmp_path: Path,
) -> None:
    """A second signal ends it, and the exit code is 0 all the same."""
    async with (
        running_server(tmp_path, DRAIN_SECONDS="60") as program,
        httpx.AsyncClient(base_url=program.url, trust_env=False) as http,
    ):
        program.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            while (await http.get("/readyz")).status_code != 503:  # noqa: ASYNC110 - a signal sets no event
                await asyncio.sleep(0.01)
        ready = await http.get("/readyz")
        assert ready.json() == {"status": "draining", "database": "ok", "redis": "off"}
        assert (await http.get("/healthz")).status_code == 200
        refused_answer = await http.get("/api/v1/project")
        assert refused_answer.status_code == 401
        assert refused_answer.headers.get_list("connection") == ["close"]
        program.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(program.process.wait(), 10) == 0
