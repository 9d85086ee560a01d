"""The subcommands of `chat-broker`."""

from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

import typer
from pydantic import SecretStr

from chat_broker.cli.admin.main import admin, token
from chat_broker.cli.checked_settings import settings_or_exit
from chat_broker.cli.launch import DEVELOPMENT, launch
from chat_broker.settings import Settings, setting_warnings

app = typer.Typer(
    name="chat-broker",
    help="Put chat into an app without giving a frontend the keys.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def say_version(wanted: bool) -> None:
    """Print the version and end, if *wanted*."""
    if wanted:
        typer.echo(f"chat-broker {installed_version('chat-broker')}")
        raise typer.Exit


app.add_typer(admin)
app.add_typer(token)


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=say_version, is_eager=True, help="Say which this is."),
    ] = False,
) -> None:
    """Put chat into an app without giving a frontend the keys."""


@app.command()
def serve(
    development: Annotated[
        bool,
        typer.Option(
            DEVELOPMENT,
            help="Fill in what nobody has set: ENVIRONMENT=development, AUTH=dev, LOG_FORMAT=console.",
        ),
    ] = False,
) -> None:
    """Run the broker, configured by the environment, .env and SECRETS_DIR."""
    raise typer.Exit(launch(development=development))


@app.command("check-config")
def check_config() -> None:
    """Show what would run, secrets hidden; exit with 2 and every problem if it would not."""
    settings = settings_or_exit()
    from rich.console import Console  # not at the top: other commands draw nothing
    from rich.table import Table  # as above

    table = Table("setting", "value", box=None, pad_edge=False)
    for name in Settings.model_fields:
        value = getattr(settings, name)
        default = Settings.model_fields[name].default
        table.add_row(name.upper(), shown(value), style="dim" if value == default else "bold")
    Console(soft_wrap=True).print(table)
    for warning in setting_warnings(settings):
        typer.echo(f"warning: {warning}", err=True)


@app.command()
def doctor() -> None:
    """Ask everything the broker depends on whether it answers; exit with 1 if something is wrong."""
    settings = settings_or_exit()
    import asyncio  # not at the top: only this command needs it

    from rich.console import Console  # as above

    from chat_broker.cli.doctor import diagnose  # as above

    findings = asyncio.run(diagnose(settings))
    console = Console(soft_wrap=True)
    marks = {"ok": "[green]ok     [/]", "warning": "[yellow]warning[/]", "error": "[red]error  [/]"}
    for finding in findings:
        console.print(marks[finding.level], finding.subject + ":", finding.message, highlight=False)
        if finding.mend:
            console.print(f"        → {finding.mend}", markup=False, highlight=False)
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


def shown(value: Any) -> str:
    """*value* as text, without secrets."""
    match value:
        case None:
            return "(unset)"
        case SecretStr():
            return _without_password(value.get_secret_value())
        case tuple():
            return ", ".join(str(part) for part in value) or "(none)"
        case Path():
            return str(value.absolute())
        case bool():
            return "true" if value else "false"
    return str(value)


def _without_password(secret: str) -> str:
    """An address without user information and query; `(hidden)` for any other *secret*."""
    if "://" not in secret:
        return "(hidden)"
    try:
        parts = urlsplit(secret)
        if "@" in parts.path + parts.query + parts.fragment:
            return "(hidden)"  # a password with a reserved character has spilled over
        host = parts.hostname or ""
        place = f"{host}:{parts.port}" if parts.port else host
    except ValueError:
        return "(hidden)"
    if "@" in parts.netloc:
        place = f"(hidden)@{place}"
    return urlunsplit((parts.scheme, place, parts.path, "", ""))
