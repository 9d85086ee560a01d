"""`doctor`: checks everything the broker depends on, and says how to repair it."""

import shutil
import time
from collections.abc import AsyncIterator, Iterator

import httpx
from redis.exceptions import RedisError

from chat_broker.cli.doctor_auth import Finding, seconds_ahead
from chat_broker.cli.doctor_auth import diagnose as diagnose_sign_in
from chat_broker.cli.preflight import check_database, database_urls, setting_to_mend
from chat_broker.settings import Settings, setting_warnings
from chat_broker.storage.redis import connect
from chat_broker.upstream.chat_api import open_chat
from chat_broker_kit.database.check import existing_folder
from chat_broker_kit.database.failures import CannotOpenDatabase
from chat_broker_kit.process.listening import CannotListen, bind_port
from chat_broker_kit.urls.database import is_sqlite, shown_url
from chat_broker_sdk import AuthenticationError, ChatError

SMALL_DISK = 512 * 2**20
TOLERATED_SKEW = 5
HEALTH_SECONDS = 2.0


async def diagnose(settings: Settings) -> list[Finding]:
    """Check settings, ports, Chat API, databases, Redis and identity providers. Changes nothing there."""
    findings = list(_warnings(settings))
    findings += _ports(settings)
    findings += [finding async for finding in _upstream(settings)]
    # An unwritable folder of two databases is one finding.
    findings += dict.fromkeys([finding async for finding in _databases(settings)])
    findings += [finding async for finding in _redis(settings)]
    return findings + await diagnose_sign_in(settings)


def _warnings(settings: Settings) -> Iterator[Finding]:
    for text in setting_warnings(settings):
        name, _, rest = text.partition(": ")
        what, _, mend = rest.partition("; ")
        yield Finding("warning", name, what, mend or None)


def _ports(settings: Settings) -> Iterator[Finding]:
    for setting, port in {"PORT": settings.port, "ADMIN_PORT": settings.admin_port}.items():
        if port is None:
            continue
        try:
            bind_port(settings.host, port, setting).close()
        except CannotListen as error:
            if error.taken and _a_broker_answers(settings.host, port):
                yield Finding("ok", setting, f"a broker answers at {settings.host}:{port}")
            else:
                yield Finding("error", error.setting, error.what, error.do)
        else:
            yield Finding("ok", setting, f"{port} on {settings.host} is free")


def _a_broker_answers(host: str, port: int) -> bool:
    try:
        with httpx.Client(trust_env=False, timeout=HEALTH_SECONDS) as http:
            shown = f"[{host}]" if ":" in host else host
            return "x-request-id" in http.get(f"http://{shown}:{port}/healthz").headers
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


async def _upstream(settings: Settings) -> AsyncIterator[Finding]:
    if settings.chat_base_url is None:
        yield Finding("ok", "Chat API", "embedded in the broker")
        return
    async with open_chat(settings) as upstream:
        chat = upstream.chat.with_options(retries=0)
        began = time.time()
        try:
            raw = await chat.with_raw_response(chat.users.list, limit=1)
        except AuthenticationError:
            yield Finding(
                "error",
                settings.chat_base_url,
                "refuses the API key",
                "put the project's present key into CHAT_API_KEY",
            )
            return
        except ChatError as error:
            what = error.code or type(error).__name__
            hint = "check CHAT_BASE_URL, and CHAT_DIALECT if that server is not one of ours"
            yield Finding(
                "error", settings.chat_base_url, f"does not answer as it should ({what})", hint
            )
            return
        took = time.time() - began
        yield Finding(
            "ok", settings.chat_base_url, f"answers in {took * 1000:.0f} ms and accepts the key"
        )
        dates = [value for name, value in raw.headers if name.lower() == "date"]
        skew = seconds_ahead(dates[0], began + took / 2) if dates else None
        if skew is not None and abs(skew) > TOLERATED_SKEW:
            ahead = "ahead of" if skew > 0 else "behind"
            yield Finding(
                "warning",
                "clock",
                f"this machine is {abs(skew):.0f} s {ahead} the Chat API's",
                "synchronise both clocks; tokens live by them",
            )


async def _databases(settings: Settings) -> AsyncIterator[Finding]:
    urls = database_urls(settings)
    for name, url in urls.items():
        try:
            await check_database(settings, name)
        except CannotOpenDatabase as error:
            yield Finding("error", setting_to_mend(settings, name), error.what, error.do)
        else:
            if not is_sqlite(url):
                yield Finding("ok", name, f"Postgres answers at {shown_url(url)}")
    if any(is_sqlite(url) for url in urls.values()):
        yield _disk(settings)


def _disk(settings: Settings) -> Finding:
    folder = existing_folder(settings.data_dir)
    free = shutil.disk_usage(folder).free
    if free < SMALL_DISK:
        text = f"only {free // 2**20} MB are free for the SQLite databases"
        return Finding(
            "warning", "DATA_DIR", text, "make room; a full disk refuses writes with 503"
        )
    return Finding("ok", "DATA_DIR", f"SQLite, {free // 2**30} GB free")


async def _redis(settings: Settings) -> AsyncIterator[Finding]:
    if settings.redis_url is None:
        yield Finding("ok", "Redis", "not used: one process needs none")
        return
    redis = connect(settings.redis_url.get_secret_value())
    try:
        began = time.monotonic()
        await redis.ping()
        took = time.monotonic() - began
    except (RedisError, OSError) as error:
        what = type(error).__name__
        yield Finding(
            "error", "REDIS_URL", f"does not answer ({what})", "check its address, and that it runs"
        )
    else:
        yield Finding("ok", "REDIS_URL", f"answers in {took * 1000:.0f} ms")
    finally:
        await redis.aclose()
