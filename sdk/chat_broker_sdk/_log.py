"""The SDK's logger, and how loud the HTTP libraries below it are."""

import logging

log = logging.getLogger("chat_broker_sdk")
"""Failed attempts at DEBUG; exceptions of the application's own functions at ERROR. Never a credential."""


def limit_to_warnings(*names: str) -> None:
    """Raise the loggers *names* to WARNING, unless the application has set their level.

    HTTP libraries log URLs at INFO and cookies at DEBUG.
    """
    for name in names:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
