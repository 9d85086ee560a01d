"""The settings as a command needs them: good, or every problem said and the process ended."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chat_broker.settings import Settings

BAD_SETTINGS = 2


def settings_or_exit() -> "Settings":
    """The settings; or every problem on standard error, and exit code 2."""
    # They load pydantic, which `launch` wants to happen with the collector off.
    from chat_broker.settings import BadSettings, load_settings

    try:
        return load_settings(more_problems)
    except BadSettings as error:
        problems = error.problems
    sys.exit(refuse_to_start([*problems, *_misspelt_names()]))


def _misspelt_names() -> list[str]:
    # Loaded by now; only what has to wait for `launch` may not be loaded with this module.
    from chat_broker.settings import Settings, name_warnings

    try:
        return name_warnings(Settings.model_fields)
    except (UnicodeDecodeError, OSError):
        return []  # a file that cannot be read is the problem that was found


def refuse_to_start(problems: list[str]) -> int:
    """Say on standard error why the broker does not run; answers the exit code."""
    print("The broker cannot start with these settings:", file=sys.stderr)  # noqa: T201 - this is the output
    for problem in problems:
        print(f"  {problem}", file=sys.stderr)  # noqa: T201
    return BAD_SETTINGS


def more_problems(settings: "Settings") -> list[str]:
    """What only those who use a setting can judge."""
    # Both load much, and are not asked where the settings themselves are bad.
    from chat_broker.auth.config import auth_problems
    from chat_broker.upstream.chat_api import upstream_problems

    return [*auth_problems(settings), *upstream_problems(settings)]
