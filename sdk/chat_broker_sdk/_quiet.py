"""HTTP libraries log URLs at INFO and cookies at DEBUG; this keeps them from it."""

import logging


def quiet(*names: str) -> None:
    """Let the loggers *names* speak from WARNING on, unless someone has set their level already."""
    for name in names:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
