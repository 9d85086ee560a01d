"""Another Chat API's spelling is met by configuration, and a mistake in it is named before anything starts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chat_broker.settings import Settings
from chat_broker.upstream.chat_api import open_chat, read_dialect, upstream_problems
from chat_broker_sdk import Dialect, Events, Request, Response, Routes
from tests.programs import run_command


def settings(**values: object) -> Settings:
    return Settings(environment="development", auth="dev", chat_api_key="ck_x", **values)


def test_no_dialect_is_the_contracts_own() -> None:
    assert read_dialect({}) == Dialect()


def test_named_values_take_the_place_of_the_contracts() -> None:
    read = read_dialect(
        {
            "prefix": "/v2",
            "idempotency_header": None,
            "project_scope": False,
            "routes": {"users": "people"},
            "events": {"message": "new_message"},
        }
    )
    assert read == Dialect(
        prefix="/v2",
        idempotency_header=None,
        project_scope=False,
        routes=Routes(users="people"),
        events=Events(message="new_message"),
    )


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"prefixx": "/v2"}, "prefixx"),
        ({"prefix": 2}, "prefix must be text"),
        ({"prefix": None}, "prefix must be text"),
        ({"project_scope": "no"}, "true or false"),
        ({"routes": {"userz": "x"}}, "routes.userz"),
        ({"routes": ["users"]}, "routes must be a JSON object"),
    ],
)
def test_a_mistake_is_named(values: dict[str, object], named: str) -> None:
    problems = upstream_problems(
        settings(chat_base_url="https://chat.example.com", chat_dialect=values)
    )
    assert len(problems) == 1
    assert problems[0].startswith("CHAT_DIALECT: ")
    assert named in problems[0]


@pytest.mark.parametrize(
    ("url", "allowed", "good"),
    [
        ("http://chat.example.com", False, False),
        ("http://chat.example.com", True, True),
        ("https://chat.example.com", False, True),
        ("http://127.0.0.1:8001", False, True),
        ("http://chat-server:8001", False, True),
    ],
)
def test_the_key_goes_over_plain_http_only_where_that_was_said(
    url: str, allowed: bool, good: bool
) -> None:
    problems = upstream_problems(settings(chat_base_url=url, chat_allow_http=allowed))
    assert problems == [] if good else "CHAT_ALLOW_HTTP" in problems[0]


class Recorder:
    """Answers every call with an empty page and remembers where it was sent."""

    def __init__(self) -> None:
        self.seen: list[Request] = []

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam's own signature
        self.seen.append(request)
        body = b'{"items": [], "page": 1, "limit": 50, "total": 0, "totalPages": 0}'
        return Response(200, [("content-type", "application/json")], body)

    async def aclose(self) -> None:
        pass


@asynccontextmanager
async def recorded(**values: object) -> AsyncIterator[Recorder]:
    recorder = Recorder()
    async with open_chat(settings(**values), transport=recorder) as upstream:
        await upstream.chat.users.list()
        yield recorder


async def test_the_broker_speaks_the_dialect_it_was_given() -> None:
    """Path, header and project scope of every call are the configured ones."""
    dialect = {
        "prefix": "/v2",
        "api_key_header": "X-Project-Key",
        "project_scope": False,
        "routes": {"users": "people"},
    }
    async with recorded(chat_base_url="https://chat.example.com", chat_dialect=dialect) as there:
        assert there.seen[0].url == "https://chat.example.com/v2/people"
        assert ("x-project-key", "ck_x") in {(k.lower(), v) for k, v in there.seen[0].headers}


async def test_doctor_names_what_does_not_answer_and_exits_with_1(tmp_path: Path) -> None:
    environment = {
        "ENVIRONMENT": "development",
        "AUTH": "dev",
        "CHAT_BASE_URL": "http://127.0.0.1:9",
        "CHAT_API_KEY": "ck_canary_0123456789",
        "REDIS_URL": "redis://127.0.0.1:9/0",
        "DATA_DIR": str(tmp_path),
    }
    code, out, err = await run_command("chat-broker", "doctor", environment=environment)
    assert code == 1, err
    assert "http://127.0.0.1:9: does not answer" in out
    assert "REDIS_URL: does not answer" in out
    assert "ck_canary" not in out + err


async def test_check_config_lists_upstream_problems_with_all_others(tmp_path: Path) -> None:
    environment = {
        "AUTH": "nonsense",
        "ADMIN_KEY": "short",
        "CHAT_BASE_URL": "http://chat.example.com",
        "CHAT_API_KEY": "ck_x",
        "CHAT_DIALECT": '{"prefixx": "/"}',
        "DATA_DIR": str(tmp_path),
    }
    code, _, err = await run_command("chat-broker", "check-config", environment=environment)
    assert code == 2
    for name in ("AUTH", "ADMIN_KEY", "CHAT_BASE_URL", "CHAT_DIALECT"):
        assert f"  {name}" in err, err
