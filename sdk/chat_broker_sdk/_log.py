"""The SDK's logger."""

import logging

log = logging.getLogger("chat_broker_sdk")
"""Failed attempts at DEBUG; what the caller's own functions raise at ERROR. Never a credential."""
