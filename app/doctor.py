"""Asks everything the broker depends on whether it answers, and says what to mend."""

import shutil
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime

from redis.exceptions import RedisError

from app.auth.doctor import Finding
from app.auth.doctor import diagnose as diagnose_sign_in
from app.settings import Settings
from app.state.contract import StateUnavailable
from app.state.database import open_database
from app.state.redis import connect
from app.upstream import open_chat
from chat_sdk import AuthenticationError, ChatError

SMALL_DISK = 512 * 2**20
TOLERATED_SKEW = 5


async def diagnose(settings: Settings) -> list[Finding]:
    """One finding or more for upstream, databases, Redis and identity providers. Changes nothing there."""
    findings = [finding async for finding in _upstream(settings)]
    findings += [finding async for finding in _databases(settings)]
    findings += [finding async for finding in _redis(settings)]
    return findings + await diagnose_sign_in(settings)


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
        if dates and (skew := _skew(dates[0], began + took / 2)) is not None:
            ahead = "ahead of" if skew > 0 else "behind"
            yield Finding(
                "warning",
                "clock",
                f"this machine is {abs(skew):.0f} s {ahead} the Chat API's",
                "synchronise both clocks; tokens live by them",
            )


def _skew(date: str, here: float) -> float | None:
    """By the Date header, which is whole seconds. None where it is small, or unreadable."""
    try:
        skew = here - parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return None
    return skew if abs(skew) > TOLERATED_SKEW else None


async def _databases(settings: Settings) -> AsyncIterator[Finding]:
    urls = {"DATABASE_URL": settings.broker_database}
    if settings.embedded:
        own = settings.chat_database_url
        urls["CHAT_DATABASE_URL"] = (
            f"sqlite:///{settings.data_dir}/chat.db" if own is None else own.get_secret_value()
        )
    on_disk = False
    for name, url in urls.items():
        if url.startswith("sqlite:"):
            on_disk = True
            continue
        try:
            async with open_database(url) as database:
                await database.one("SELECT 1 AS one")
        except StateUnavailable as error:
            yield Finding(
                "error", name, f"does not answer ({error})", "check its address, and that it runs"
            )
        else:
            yield Finding("ok", name, "Postgres answers")
    if on_disk:
        yield _disk(settings)


def _disk(settings: Settings) -> Finding:
    folder = settings.data_dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
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
