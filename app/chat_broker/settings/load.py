"""Reads the settings of this process."""

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

    *checks* are what other parts have to say about settings that they alone understand.
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
        if found := _more_problems(settings, checks, named=set()):
            raise BadSettings(found)
        return settings
    # With the unreadable ones at their defaults the others can still be compared with each other.
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
    """Set what nobody has set, so that a fresh checkout runs: development mode, in which anybody may sign in."""
    given = given_names(os.environ, secrets_folder())
    wanted = {"ENVIRONMENT": "development", "LOG_FORMAT": "console"}
    environment = os.environ.get("ENVIRONMENT") or dotenv_file().get("ENVIRONMENT") or "development"
    if environment.lower() == "development":
        wanted["AUTH"] = "dev"
    os.environ.update({name: value for name, value in wanted.items() if name not in given})


def _bad_json(error: Exception) -> list[str]:
    """A setting that is JSON is read before any other, and its text is nowhere in the error."""
    found = re.search(r'parsing value for field "(\w+)"', str(error))
    return [f"{found[1].upper()}: is not JSON"] if found else []


def _more_problems(
    settings: Settings | None,
    checks: Iterable[Callable[[Settings], Iterable[str]]],
    *,
    named: set[str],
) -> list[str]:
    """What *checks* say of settings other than *named*: of those a problem is known."""
    if settings is None:
        return []
    return [text for check in checks for text in check(settings) if not _names([text]) & named]


def _names(problems: Iterable[str]) -> set[str]:
    """The settings that *problems* begin with, in lower case."""
    return {text.partition(":")[0].lower() for text in problems}


def remove_secrets(environ: dict[str, str] | os._Environ[str]) -> None:
    """Take the secrets that were read out of *environ*, so that no child process and no dump of it has them."""
    for name in secret_names():
        environ.pop(name.upper(), None)
        environ.pop(name, None)


def present_keys(settings: Settings) -> tuple[str | None, str | None]:
    """CHAT_API_KEY and CHAT_API_KEY_NEXT as files and `.env` say now; else as *settings* were read."""
    return (
        present_secret("chat_api_key", settings.chat_api_key),
        present_secret("chat_api_key_next", settings.chat_api_key_next),
    )


def secret_names() -> tuple[str, ...]:
    """The settings whose values are never shown."""
    return tuple(
        name
        for name, field in Settings.model_fields.items()
        if "SecretStr" in str(field.annotation)
    )
