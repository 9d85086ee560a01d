"""Warnings about misspelt settings and foreign variables, by `check-config` and in the log at the start."""

import asyncio
import codecs
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from chat_broker.settings import Settings
from chat_broker.settings.warnings import ALIKE, OTHERS, PREFIXES
from chat_broker_kit.setting_sources import unknown_names
from chat_broker_server import Settings as ServerSettings
from chat_broker_server.settings import ALIKE as SERVER_ALIKE
from tests.programs import (
    BIN,
    ROOT,
    clean_environment,
    free_port,
    run_command,
    running,
    running_server,
)

DEVELOPMENT = {"ENVIRONMENT": "development", "AUTH": "dev"}
PRODUCTION = {"AUTH": "jwt", "AUTH_JWT_ISSUER": "https://id.example", "AUTH_JWT_AUDIENCE": "chat"}
KNOWN = {name.upper() for name in Settings.model_fields} | OTHERS
SERVER_KNOWN = {str(field.alias) for field in ServerSettings.model_fields.values()}


async def check_config(folder: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
    """`chat-broker check-config` in *folder*, where an `.env` may lie."""
    process = await asyncio.create_subprocess_exec(
        str(BIN / "chat-broker"), "check-config", cwd=folder, env=clean_environment(environment),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await process.communicate()
    return process.returncode or 0, out.decode(), errors.decode()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ADMIN_PROT", "ADMIN_PORT"), ("RATE_TOKENS", "RATE_TOKEN"), ("LOGLEVEL", "LOG_LEVEL"), ("WORKER", "WORKERS"),
        ("ADMINPORT", "ADMIN_PORT"), ("PUBLICURL", "PUBLIC_URL"), ("CORS_ORIGIN", "CORS_ORIGINS"), ("REDIS_URI", "REDIS_URL"),
        ("AUTH_JWT_AUDIENCES", "AUTH_JWT_AUDIENCE"), ("TRUSTED_PROXY", "TRUSTED_PROXIES"), ("ENVIROMENT", "ENVIRONMENT"),
        ("ADMIN_KEYS", "ADMIN_KEY"), ("DATABASEURL", "DATABASE_URL"), ("CHAT_APIKEY", "CHAT_API_KEY"),
    ],
)  # fmt: skip
def test_a_misspelt_setting_is_named_with_the_nearest(name: str, nearest: str) -> None:
    assert list(unknown_names([name], KNOWN, PREFIXES, alike=ALIKE)) == [
        f"{name}: there is no such setting; did you mean {nearest}?"
    ]


def test_a_name_of_ours_without_a_near_one_is_named_too() -> None:
    (said,) = unknown_names(["AUTH_JWT_FOO_BAR_BAZ"], KNOWN, PREFIXES, alike=ALIKE)
    assert said.startswith("AUTH_JWT_FOO_BAR_BAZ: there is no such setting; remove it")


FOREIGN = """
PATH HOME LANG LC_ALL HOSTNAME HOSTTYPE LOGNAME USER SHELL PWD OLDPWD TERM TMPDIR EDITOR MAIL DISPLAY GPG_KEY PYTHONPATH
PYTHON_VERSION PYTHONUNBUFFERED VIRTUAL_ENV POSTGRES_PASSWORD POSTGRES_USER POSTGRES_DB PGHOST PGUSER PGPASSWORD
REDIS_HOST REDIS_PORT REDIS_PASSWORD AWS_REGION AWS_ACCESS_KEY_ID NODE_ENV CI DEBUG SECRET_KEY API_KEY AUTH_TOKEN
LOG_FILE TOKEN XDG_DATA_DIRS XDG_DATA_HOME DATA_HOME SSH_AUTH_SOCK http_proxy NO_PROXY INVOCATION_ID JOURNAL_STREAM
LISTEN_FDS SMTP_HOST KUBERNETES_PORT KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT_HTTPS KUBERNETES_PORT_443_TCP_ADDR
CHAT_SERVICE_HOST CHAT_SERVICE_PORT CHAT_PORT CHAT_PORT_8000_TCP CHAT_PORT_8000_TCP_PROTO ADMIN_SERVICE_HOST
ADMIN_PORT_8001_TCP_ADDR SENTRY_DSN OTEL_EXPORTER_OTLP_ENDPOINT MYSQL_DATABASE DOMAIN EMAIL COMPOSE_PROJECT_NAME
CONDA_PREFIX CREDENTIALS_DIRECTORY STATE_DIRECTORY RUNTIME_DIRECTORY LISTEN_PID NOTIFY_SOCKET
"""


def test_names_of_others_are_left_alone() -> None:
    """Variables of shells, containers and other programs give no warning, nor do the broker's settings for chat-server."""
    assert list(unknown_names(FOREIGN.upper().split(), KNOWN, PREFIXES, alike=ALIKE)) == []
    assert list(unknown_names(FOREIGN.upper().split(), SERVER_KNOWN, alike=SERVER_ALIKE)) == []
    broker = (name.upper() for name in Settings.model_fields)
    assert list(unknown_names(broker, SERVER_KNOWN, alike=SERVER_ALIKE)) == []
    assert {name for name in SERVER_KNOWN if name.lower() not in Settings.model_fields} <= OTHERS


async def test_check_config_and_the_first_lines_of_the_log_say_it(tmp_path: Path) -> None:
    """From `.env`, the environment and files alike; a nearest setting that is set needs no hint."""
    (tmp_path / ".env").write_text(
        "ADMIN_PROT=9000\nPOSTGRES_PASSWORD=canary\nRATE_TOKEN=5/minute\n"
    )
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "admin_keys").write_text("canary")
    port = free_port()
    environment = {
        **DEVELOPMENT,
        "LOGLEVEL": "canary",
        "PORT": str(port),
        "SECRETS_DIR": str(tmp_path / "secrets"),
    }
    code, out, errors = await check_config(tmp_path, environment)
    assert code == 0, errors
    expected = [
        ("ADMIN_KEYS", "ADMIN_KEY"),
        ("ADMIN_PROT", "ADMIN_PORT"),
        ("LOGLEVEL", "LOG_LEVEL"),
    ]
    assert errors.splitlines() == [
        f"warning: {name}: there is no such setting; did you mean {nearest}?"
        for name, nearest in expected
    ]
    assert "canary" not in out + errors
    doctor = await run_command(
        "chat-broker", "doctor", environment={**environment, "DATA_DIR": str(tmp_path)}
    )
    assert "did you mean LOG_LEVEL?" in doctor[1]
    command = [str(BIN / "chat-broker"), "serve"]
    async with running(command, environment, port=port, data_dir=tmp_path) as broker:
        first = broker.log().splitlines()[:3]
    assert [
        f"did you mean {nearest}?" in line
        for line, (_, nearest) in zip(first, expected, strict=True)
    ] == [True] * 3


async def test_a_refusal_says_each_problem_once_and_which_names_are_misspelt(
    tmp_path: Path,
) -> None:
    """A misspelt setting is often why another one is missing."""
    environment = {"AUTH": "jwt", "AUTH_JWT_ISUER": "https://id.example", "DATA_DIR": str(tmp_path)}
    code, _, errors = await check_config(tmp_path, environment)
    assert code == 2
    assert errors.splitlines()[1:] == [
        "  AUTH_JWT_ISSUER: needed by AUTH=jwt",
        "  AUTH_JWT_AUDIENCE: needed by AUTH=jwt",
        "  AUTH_JWT_ISUER: there is no such setting; did you mean AUTH_JWT_ISSUER?",
    ]


async def test_a_service_named_like_a_setting_changes_none(tmp_path: Path) -> None:
    """Kubernetes puts the address of each service of the namespace into every pod."""
    links = {
        "ADMIN_PORT": "tcp://10.96.14.7:8001",
        "ADMIN_SERVICE_HOST": "10.96.14.7",
        "ADMIN_PORT_8001_TCP_ADDR": "10.96.14.7",
    }
    code, out, errors = await check_config(tmp_path, DEVELOPMENT | links)
    assert code == 0, errors
    assert "10.96" not in out
    assert errors.startswith(
        "warning: ADMIN_PORT: tcp://10.96.14.7:8001 comes from a service of that name, and is ignored"
    )
    assert errors.count("warning:") == 1
    (tmp_path / ".env").write_text("ADMIN_PORT=9001\n")
    _, out, _ = await check_config(tmp_path, DEVELOPMENT | links)
    assert "9001" in out  # what the operator has set is not hidden by it
    code, _, errors = await check_config(
        tmp_path, DEVELOPMENT | {"REDIS_URL": "tcp://10.96.14.7:6379"}
    )
    assert (code, "REDIS_URL: must begin with redis://" in errors) == (2, True)
    async with running_server(tmp_path, PORT=str(free_port()), REDIS_PORT="tcp://10.96.14.7:6379"):
        pass


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("LOG_LEVEL", "info", "INFO"), ("LOG_LEVEL", "Warn", "WARNING"), ("LOG_FORMAT", "JSON", "json"),
        ("ENVIRONMENT", "Development", "development"), ("AUTH", "DEV", "dev"),
    ],
)  # fmt: skip
def test_words_are_taken_in_either_case(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, given: str, taken: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for each, value in (DEVELOPMENT | {name: given}).items():
        monkeypatch.setenv(each, value)
    assert getattr(Settings(), name.lower()) in (taken, (taken,))


async def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    """Of `.env`, whose first name would be another one, and of secret files, whose key would be refused."""
    (tmp_path / ".env").write_bytes(codecs.BOM_UTF8 + b"AUTH=dev\nENVIRONMENT=development\n")
    (tmp_path / "admin_key").write_bytes(codecs.BOM_UTF8 + b"k" * 40 + b"\r\n")
    code, _, errors = await check_config(tmp_path, {"SECRETS_DIR": str(tmp_path)})
    assert (code, errors) == (0, "")
    port = free_port()
    environment = {"SECRETS_DIR": str(tmp_path), "PORT": str(port)}
    async with (
        running(
            [str(BIN / "chat-broker"), "serve"], environment, port=port, data_dir=tmp_path
        ) as broker,
        httpx.AsyncClient(base_url=broker.url, trust_env=False) as http,
    ):
        answer = await http.get("/admin/status", headers={"Authorization": f"Bearer {'k' * 40}"})
    assert answer.status_code == 200


@pytest.mark.parametrize("name", [".env", "admin_key"])
async def test_a_file_in_another_encoding_is_named(tmp_path: Path, name: str) -> None:
    """A file in UTF-16 with a byte order mark, as Windows shells write with `>`."""
    (tmp_path / name).write_bytes(codecs.BOM_UTF16_LE + "ADMIN_KEY=x".encode("utf-16-le"))
    code, _, errors = await check_config(tmp_path, DEVELOPMENT | {"SECRETS_DIR": str(tmp_path)})
    assert code == 2
    assert f"{name}: is not UTF-8 text; save it as UTF-8" in errors
    assert "Traceback" not in errors


async def test_a_setting_that_is_no_json_is_named(tmp_path: Path) -> None:
    code, _, errors = await check_config(
        tmp_path, DEVELOPMENT | {"CHAT_DIALECT": "{prefix: canary"}
    )
    assert (code, "  CHAT_DIALECT: is not JSON" in errors) == (2, True)
    assert "canary" not in errors
    assert "Traceback" not in errors


async def test_make_run_fills_in_only_what_nobody_set(tmp_path: Path) -> None:
    """`serve --development` sets only what `.env` leaves open: production stays production, a port stays."""
    recipe = (ROOT / "Makefile").read_text().partition("\nrun:")[2].splitlines()[1]
    assert recipe == "\t@$(BIN)/chat-broker serve --development"
    command = [str(BIN / "chat-broker"), "serve", "--development"]
    port = free_port()
    (tmp_path / ".env").write_text(f"PORT={port}\nAUTH_JWT_ISSUER=https://id.example\n")
    async with running(command, {}, port=port, data_dir=tmp_path) as broker:
        assert "in development mode: any name signs in" in broker.log()
    settings = [f"{name}={value}" for name, value in PRODUCTION.items()]
    (tmp_path / ".env").write_text(
        "\n".join([*settings, "ENVIRONMENT=production", f"PORT={port}", ""])
    )
    async with (
        running(command, {}, port=port, data_dir=tmp_path) as broker,
        httpx.AsyncClient(base_url=broker.url, trust_env=False) as http,
    ):
        assert (await http.post("/dev/login", json={"username": "alice"})).status_code == 404
        assert (await http.get("/openapi.json")).status_code == 404
        assert "The broker is at" not in broker.log()
    (tmp_path / ".env").write_text("ENVIRONMENT=production\n")
    process = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, env=clean_environment({}), stderr=asyncio.subprocess.PIPE
    )
    errors = (await process.communicate())[1].decode()
    assert (process.returncode, "AUTH: name at least one" in errors) == (2, True), errors


async def test_a_database_that_is_left_behind_is_named(tmp_path: Path) -> None:
    """Settings that leave the data folder unused are warned about, because they look like an empty chat."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("broker.db", "chat.db"):
        (data / name).touch()
    below = tmp_path / "below"
    below.mkdir()
    _, _, errors = await check_config(tmp_path, DEVELOPMENT)
    assert errors == ""
    urls = {
        "DATABASE_URL": "sqlite:///other.db",
        "CHAT_DATABASE_URL": "postgresql://u:canary@db/chat",
    }
    _, _, errors = await check_config(tmp_path, DEVELOPMENT | urls)
    assert (
        f"DATABASE_URL: {tmp_path}/other.db is used, and {data}/broker.db is left behind" in errors
    )
    assert (
        f"CHAT_DATABASE_URL: postgresql://db/chat is used, and {data}/chat.db is left behind"
        in errors
    )
    assert "canary" not in errors
    remote = {"CHAT_BASE_URL": "https://chat.example", "CHAT_API_KEY": "ck_0123456789abcdef"}
    _, _, errors = await check_config(tmp_path, DEVELOPMENT | remote)
    assert (
        f"CHAT_BASE_URL: https://chat.example is used, and {data}/chat.db is left behind" in errors
    )
    _, _, errors = await check_config(below, DEVELOPMENT)
    assert (
        f"DATA_DIR: {below}/data/broker.db is used, and {data}/broker.db is left behind; set DATA_DIR={data}"
        in errors
    )
    for settings in (
        {"DATA_DIR": str(data)},
        {"DATABASE_URL": f"sqlite:///{data}/broker.db", "DATA_DIR": str(data)},
    ):
        _, _, errors = await check_config(below, DEVELOPMENT | settings)
        assert errors == ""


async def test_a_folder_that_will_be_new_is_named(tmp_path: Path) -> None:
    """A broker started in the wrong folder in production warns about a new database."""
    settings = PRODUCTION | {"PUBLIC_URL": "http://intranet"}
    _, _, errors = await check_config(tmp_path, settings)
    assert (
        f"warning: DATA_DIR: data is relative to where the broker is started, and {tmp_path}/data will be new"
        in errors
    )
    assert f"set DATA_DIR={tmp_path}/data" in errors
    _, _, errors = await check_config(tmp_path, settings | {"DATA_DIR": f"{tmp_path}/data"})
    assert errors == ""
    (tmp_path / "data").mkdir()
    _, _, errors = await check_config(tmp_path, settings)
    assert errors == ""


async def test_production_behind_tls_has_to_know_its_address(tmp_path: Path) -> None:
    """The broker does not terminate TLS, so a proxy in front must be in TRUSTED_PROXIES."""
    (tmp_path / "data").mkdir()
    code, _, errors = await check_config(tmp_path, PRODUCTION)
    assert (code, errors.count("\n")) == (0, 1)
    assert "set PUBLIC_URL=https://… as browsers see it, and TRUSTED_PROXIES" in errors
    _, _, errors = await check_config(tmp_path, PRODUCTION | {"PUBLIC_URL": "https://chat.example"})
    assert "warning: TRUSTED_PROXIES: unset" in errors
    for settings in (
        {"PUBLIC_URL": "https://chat.example", "TRUSTED_PROXIES": "10.0.0.0/8"},
        {"PUBLIC_URL": "http://intranet"},
    ):
        _, _, errors = await check_config(tmp_path, PRODUCTION | settings)
        assert errors == ""


@pytest.mark.parametrize(
    "header", ["X-Forwarded-Proto", "X-Forwarded-For", "Forwarded", "X-Real-IP"]
)
async def test_the_first_request_through_an_unknown_proxy_is_said_once(
    tmp_path: Path, header: str
) -> None:
    """The warning names the address to trust. Requests without the header, or from a trusted proxy, cause none."""
    for trusted, lines in (("", 1), ("127.0.0.1", 0)):
        port = free_port()
        environment = {**DEVELOPMENT, "PORT": str(port), "TRUSTED_PROXIES": trusted}
        async with (
            running(
                [str(BIN / "chat-broker"), "serve"], environment, port=port, data_dir=tmp_path
            ) as broker,
            httpx.AsyncClient(base_url=broker.url, trust_env=False) as http,
        ):
            await http.get("/chat/me")
            assert "proxy.not_trusted" not in broker.log()
            for path in ("/chat/me", "/chat/me", "/healthz"):
                await http.get(path, headers={header: "https"})
        said = [line for line in broker.log().splitlines() if "proxy.not_trusted" in line]
        assert len(said) == lines
        assert all("TRUSTED_PROXIES=127.0.0.1 and PUBLIC_URL=https://" in line for line in said)
