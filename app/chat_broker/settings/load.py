"""Reads the settings of this process from all their sources."""

import os
import re
from collections.abc import Callable, Iterable

from pydantic import ValidationError
from pydantic_settings import SettingsError

from chat_broker.settings.conflicts import BadSettings
from chat_broker.settings.model import Settings
from chat_broker.settings.sources import present_secret, secrets_folder
from chat_broker_kit.setting_sources import dotenv_file, given_names, unreadable_files


def load_settings(*checks: Callable[[Settings], Iterable[str]]) -> Settings:
    """The settings of this process. Raises BadSettings with every problem, not only the first.

    *checks* are the checks of other packages, which alone can judge some settings.
    """
    try:
        settings = Settings()
    except (UnicodeDecodeError, SettingsError, OSError) as error:
        if problems := list(unreadable_files(secrets_folder())) or _bad_json(error):
            raise BadSettings(problems) from None
        raise
    except BadSettings as refused:
        problems = refused.problems
        more = _more_problems(refused.settings, checks, named=_names(problems))
        raise BadSettings([*problems, *more]) from None
    except ValidationError as refused:
        problems = [
            f"{str(error['loc'][0]).upper()}: {error['msg'].removeprefix('Value error, ')}"
            for error in refused.errors(include_url=False, include_input=False)
        ]
    else:
        if problems := _more_problems(settings, checks, named=set()):
            raise BadSettings(problems)
        return settings
    # With defaults in place of unreadable settings, conflicts among the readable ones can be reported too.
    bad = _names(problems)
    defaults = {name: field.default for name, field in Settings.model_fields.items() if name in bad}
    readable: Settings | None
    try:
        readable = Settings(**defaults)
    except BadSettings as more:
        readable = more.settings
        problems += [text for text in more.problems if not _names([text]) & bad]
    problems += _more_problems(readable, checks, named=_names(problems))
    raise BadSettings(list(dict.fromkeys(problems)))


def fill_in_development() -> None:
    """Set missing settings so that a fresh checkout runs, in development mode: anyone may sign in under any name."""
    present = given_names(os.environ, secrets_folder())
    wanted = {"ENVIRONMENT": "development", "LOG_FORMAT": "console"}
    environment = os.environ.get("ENVIRONMENT") or dotenv_file().get("ENVIRONMENT") or "development"
    if environment.lower() == "development":
        wanted["AUTH"] = "dev"
    os.environ.update({name: value for name, value in wanted.items() if name not in present})


def _bad_json(error: Exception) -> list[str]:
    """The problem of a setting that is not JSON. Such an error repeats no value."""
    match = re.search(r'parsing value for field "(\w+)"', str(error))
    return [f"{match[1].upper()}: is not JSON"] if match else []


def _more_problems(
    settings: Settings | None,
    checks: Iterable[Callable[[Settings], Iterable[str]]],
    *,
    named: set[str],
) -> list[str]:
    """The problems that *checks* report, except of settings in *named*: those have a problem already."""
    if settings is None:
        return []
    return [text for check in checks for text in check(settings) if not _names([text]) & named]


def _names(problems: Iterable[str]) -> set[str]:
    """The settings that *problems* are about, in lower case."""
    return {text.partition(":")[0].lower() for text in problems}


def remove_secrets(environ: dict[str, str] | os._Environ[str]) -> None:
    """Remove all secrets from *environ*: child processes and dumps must not contain them."""
    for name in secret_names():
        environ.pop(name.upper(), None)
        environ.pop(name, None)


def present_keys(settings: Settings) -> tuple[str | None, str | None]:
    """CHAT_API_KEY and CHAT_API_KEY_NEXT, read again from files and `.env`; from *settings* if they are in neither."""
    return (
        present_secret("chat_api_key", settings.chat_api_key),
        present_secret("chat_api_key_next", settings.chat_api_key_next),
    )


def secret_names() -> tuple[str, ...]:
    """The settings that hold secrets, in lower case."""
    return tuple(
        name
        for name, field in Settings.model_fields.items()
        if "SecretStr" in str(field.annotation)
    )
