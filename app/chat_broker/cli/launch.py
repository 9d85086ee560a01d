"""A start of the broker, from settings to server, with nothing loaded that it does not use."""

import gc
import sys

from chat_broker.cli.checked_settings import settings_or_exit

DEVELOPMENT = "--development"


def launch(*, development: bool = False) -> int:
    """Run the broker, configured by the environment; answers the exit code.

    With *development*, what nobody has set is filled in for a try on one's own machine.
    """
    # What a start loads stays: to look for garbage in it again and again is a seventh of the time.
    # The server turns the collector on again when it is up.
    gc.disable()
    load_structlog()
    try:
        if development:
            # Loaded with the collector off, as all that follows.
            from chat_broker.settings import fill_in_development

            fill_in_development()
        settings = settings_or_exit()
        # With bad settings, nothing of the server is loaded.
        from chat_broker.cli.serve import serve

        return serve(settings)
    finally:
        gc.enable()


def load_structlog() -> None:
    """Load structlog without rich, which it would load for tracebacks that nobody here has drawn: a tenth of a start."""
    if "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # to an import, this says that there is none
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]
