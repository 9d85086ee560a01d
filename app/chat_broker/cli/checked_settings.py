"""Settings for commands: loaded and checked, or the process ends with every problem printed."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chat_broker.settings import Settings

BAD_SETTINGS = 2


def settings_or_exit() -> "Settings":
    """The settings. With bad ones, prints every problem to standard error and exits with 2."""
    # Not at the top: they load pydantic, which `launch` does with the collector off.
    from chat_broker.settings import BadSettings, load_settings

    try:
        return load_settings(more_problems)
    except BadSettings as error:
        problems = error.problems
    sys.exit(refuse_to_start([*problems, *_misspelt_names()]))


def _misspelt_names() -> list[str]:
    # Not at the top, as above.
    from chat_broker.settings import Settings, name_warnings

    try:
        return name_warnings(Settings.model_fields)
    except (UnicodeDecodeError, OSError):
        return []  # an unreadable file is among the problems already


def refuse_to_start(problems: list[str]) -> int:
    """Print *problems* to standard error. Returns the exit code."""
    print("The broker cannot start with these settings:", file=sys.stderr)  # noqa: T201 - this is the output
    for problem in problems:
        print(f"  {problem}", file=sys.stderr)  # noqa: T201
    return BAD_SETTINGS


def more_problems(settings: "Settings") -> list[str]:
    """The problems that only the packages that use a setting can find."""
    # Not at the top: both load much, and are not needed where a setting is invalid.
    from chat_broker.auth.config import auth_problems
    from chat_broker.upstream.chat_api import upstream_problems

    return [*auth_problems(settings), *upstream_problems(settings)]
