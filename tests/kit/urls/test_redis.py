"""Redis URLs: what would fail at the first connection, or be silently without Redis, is said before the start."""

import pytest

from chat_broker_kit.urls.redis import RedisUrlError, check_redis_url
from tests.programs import run_command


@pytest.mark.parametrize(
    "url",
    [
        "redis://h", "redis://:pw@h:6379/0", "rediss://u:p%23w@h/1?ssl_cert_reqs=none", "unix:///run/redis.sock?db=1",
        "redis://[::1]:6379", "redis://u:pw@h:6379/?client_name=chat",
    ],
)  # fmt: skip
def test_what_redis_takes_is_taken(url: str) -> None:
    check_redis_url(url)


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("tcp://same:6379", "redis://"), ("redis://h:same", "host:port"), ("redis://:pa#same@h", "%23"),
        ("redis://:pa@same@h", "%40"), ("redis://:pa/same@h", "%2F"), ("redis://h/same", "number of a database"),
        ("redis://h?foo=1", "foo is not supported: leave it out"), ("redis://h:70000", "host:port"),
    ],
)  # fmt: skip
async def test_what_it_does_not_take_says_what_to_write(url: str, hint: str) -> None:
    """The same for both programs. None of a password is repeated."""
    with pytest.raises(RedisUrlError) as refused:
        check_redis_url(url)
    assert hint in str(refused.value)
    assert "same" not in str(refused.value)


async def test_both_programs_refuse_it(tmp_path) -> None:
    environment = {
        "ENVIRONMENT": "development",
        "AUTH": "dev",
        "DATA_DIR": str(tmp_path),
        "REDIS_URL": "redis://h:sesame",
    }
    for program in ("chat-broker", "chat-server"):
        code, _, errors = await run_command(program, "serve", environment=environment)
        assert (code, "REDIS_URL: " in errors, "host:port" in errors) == (2, True, True), errors
        assert "sesame" not in errors
        assert "Traceback" not in errors
