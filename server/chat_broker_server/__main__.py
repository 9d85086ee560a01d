"""The `chat-server` command."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from importlib.metadata import version as installed_version
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec
import structlog
import typer
from pydantic import ValidationError

from chat_broker_kit.database.check import make_folder
from chat_broker_kit.database.failures import CannotOpenDatabase
from chat_broker_kit.database.transactions import Database
from chat_broker_kit.process.listening import CannotListen, bind_port
from chat_broker_kit.setting_sources import unreadable_files
from chat_broker_kit.urls.database import shown_url
from chat_broker_server.credentials.api_keys import ApiKey, ApiKeys
from chat_broker_server.credentials.signing_keys import open_signing_keys
from chat_broker_server.database.open import check_database, open_database
from chat_broker_server.errors import ChatError
from chat_broker_server.observability import logs
from chat_broker_server.settings import Settings

T = TypeVar("T")

cli = typer.Typer(
    help="The Chat API server on its own: users, rooms, messages, chat tokens.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
keys_cli = typer.Typer(help="API keys of a project.", no_args_is_help=True)
cli.add_typer(keys_cli, name="keys")
projects_cli = typer.Typer(help="Projects.", no_args_is_help=True)
cli.add_typer(projects_cli, name="projects")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON value on standard output.")]


def _say_version(wanted: bool) -> None:
    if wanted:
        _say(f"chat-server {installed_version('chat-broker')}")
        raise typer.Exit


@cli.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say which this is."),
    ] = False,
) -> None:
    """The Chat API server on its own: users, rooms, messages, chat tokens."""


@cli.command()
def serve() -> None:
    """Run the server: HOST, PORT, DATA_DIR, CHAT_DATABASE_URL, REDIS_URL and the rest."""
    from chat_broker_server.serve import run  # uvicorn and all behind it are for this command alone

    settings = _settings(log_level=None)
    for warning in settings.warnings:
        structlog.get_logger("chat_broker_server").warning("settings.warning", hint=warning)
    port = _bound_port(settings)
    if _run(_check_database(settings, must_exist=False)) is None:
        structlog.get_logger("chat_broker_server").info(
            "database.new", at=shown_url(settings.database_url)
        )
    sys.exit(run(settings, port))


@cli.command()
def create_project(
    name: Annotated[str, typer.Option(help="What people call the project.")],
    as_json: AsJson = False,
) -> None:
    """Make a project. Its API key is printed once, alone on the last line."""
    settings = _settings()
    project_id, key = _on_keys(settings, lambda keys: keys.create_project(name), must_exist=False)
    _say_where(settings, as_json)
    if as_json:
        _say(json.dumps({"project_id": project_id, "name": name, "api_key": key}))
        return
    _say(f"Project {name!r} has the id {project_id}.")
    _say("Its API key is shown this once; keep it secret:")
    _say(key)


@projects_cli.command("list")
def list_projects(as_json: AsJson = False) -> None:
    """The projects: id, when each was made, how many keys open it, name."""
    listed = _on_keys(_settings(), lambda keys: keys.projects())
    if as_json:
        _say(json.dumps([msgspec.to_builtins(project) for project in listed]))
        return
    for project in listed:
        _say(f"{project.id}  {project.created_at}  {project.keys} keys  {project.name}")


@keys_cli.command("list")
def list_keys(
    project_id: Annotated[str | None, typer.Argument(help="Of one project only.")] = None,
    project: Annotated[str | None, typer.Option(help="The same as an option.")] = None,
    as_json: AsJson = False,
) -> None:
    """The keys of all projects or of one, without their secrets."""
    listed = _on_keys(_settings(), lambda keys: keys.list(project_id or project))
    if as_json:
        _say(json.dumps([_shown(key) for key in listed]))
        return
    for key in listed:
        state = f"revoked {key.revoked_at}" if key.revoked_at else "good"
        _say(f"{key.id}  {key.project_id}  {key.created_at}  {state}  {key.name}")


@keys_cli.command("create")
def create_key(
    project_id: str,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    as_json: AsJson = False,
) -> None:
    """A further key for a project, printed once, alone on the last line."""
    settings = _settings()
    stored, key = _on_keys(settings, lambda keys: keys.create(project_id, name))
    _say_where(settings, as_json)
    if as_json:
        _say(json.dumps({**_shown(stored), "api_key": key}))
        return
    _say(f"Key {stored.id}; it is shown this once:")
    _say(key)


@keys_cli.command("revoke")
def revoke_key(key_id: str, as_json: AsJson = False) -> None:
    """Make a key open nothing, at once and for good."""
    settings = _settings()
    revoked = _on_keys(settings, lambda keys: keys.revoke(key_id))
    _say_where(settings, as_json)
    _say(json.dumps(_shown(revoked)) if as_json else f"Key {revoked.id} opens nothing any more.")


@cli.command()
def rotate_signing_key(as_json: AsJson = False) -> None:
    """Sign with a new key from now on; the old one verifies until its last token has expired."""
    settings = _settings()

    async def work() -> str:
        async with _database(settings) as database:
            keys = await open_signing_keys(database, settings.token_algorithm)
            return await keys.rotate(settings.token_algorithm)

    kid = _run(work())
    _say_where(settings, as_json)
    _say(json.dumps({"kid": kid}) if as_json else f"Tokens are signed with key {kid} now.")


@asynccontextmanager
async def _database(settings: Settings, *, must_exist: bool = True) -> AsyncIterator[Database]:
    await _check_database(settings, must_exist=must_exist)
    database = await open_database(settings.database_url, pool=2)
    try:
        yield database
    finally:
        await database.close()


def _on_keys(
    settings: Settings, work: Callable[[ApiKeys], Awaitable[T]], *, must_exist: bool = True
) -> T:
    """The result of *work* on the keys of the database."""

    async def run() -> T:
        async with _database(settings, must_exist=must_exist) as database:
            return await work(ApiKeys(database))

    return _run(run())


def _settings(*, log_level: str | None = "WARNING") -> Settings:
    # Files that this program makes are readable by their owner only.
    os.umask(0o077)
    try:
        settings = Settings()
        logs.configure(settings, level=log_level)
        return settings
    except UnicodeDecodeError:
        _refuse(*unreadable_files(None))
    except ValidationError as error:
        _refuse(*(_problem(detail) for detail in error.errors(include_input=False)))


def _problem(detail: Any) -> str:
    return f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}"


async def _check_database(settings: Settings, *, must_exist: bool) -> str | None:
    """The schema's version; None for a new database. Raises CannotOpenDatabase before it creates anything."""
    url = settings.database_url
    try:
        version = await check_database(url)
        if not must_exist:
            make_folder(url)
    except CannotOpenDatabase as error:
        name = "DATA_DIR" if settings.chat_database_url is None else "CHAT_DATABASE_URL"
        raise CannotOpenDatabase(f"{name}: {error.what}", error.do) from None
    if version is None and must_exist:
        raise CannotOpenDatabase(
            f"there is no database at {shown_url(url)}",
            "set DATA_DIR or CHAT_DATABASE_URL as the server has it",
        )
    return version


def _bound_port(settings: Settings) -> socket.socket:
    try:
        return bind_port(settings.host, settings.port)
    except CannotListen as error:
        _refuse(str(error))


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except CannotOpenDatabase as error:
        _refuse(str(error))
    except ChatError as error:
        _refuse(error.message)
    except OSError as error:
        _refuse(f"CHAT_DATABASE_URL or DATA_DIR: {error}")
    except Exception as error:  # noqa: BLE001 – an error of the database driver
        _refuse(f"The database cannot be opened: {type(error).__name__}: {error}")


def _shown(key: ApiKey) -> dict[str, str | None]:
    shown: dict[str, str | None] = msgspec.to_builtins(key)
    return shown


def _say(text: str) -> None:
    typer.echo(text)


def _say_where(settings: Settings, as_json: bool) -> None:
    """Print which database was changed; with *as_json* to standard error."""
    typer.echo(f"Database: {shown_url(settings.database_url)}", err=as_json)


def _refuse(*problems: str) -> NoReturn:
    for problem in problems:
        typer.echo(f"chat-server: {problem}", err=True)
    sys.exit(2)


def main() -> None:
    """Entry point of the `chat-server` script."""
    cli()


if __name__ == "__main__":
    main()
