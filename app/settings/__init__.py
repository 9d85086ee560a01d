"""Everything an operator can set, read once at start and never changed."""

from app.settings.conflicts import BadSettings, conflicts, is_sample
from app.settings.load import load_settings, present_keys, remove_secrets, secret_names
from app.settings.model import AuthMode, Settings, read_rates

__all__ = [
    "AuthMode",
    "BadSettings",
    "Settings",
    "conflicts",
    "is_sample",
    "load_settings",
    "present_keys",
    "read_rates",
    "remove_secrets",
    "secret_names",
]
