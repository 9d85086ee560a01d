"""Everything an operator can set, read once at start and never changed."""

from app.settings.conflicts import BadSettings, conflicts, is_sample
from app.settings.load import (
    fill_in_development,
    load_settings,
    present_keys,
    remove_secrets,
    secret_names,
)
from app.settings.model import AuthMode, Settings, read_rates
from app.settings.warnings import setting_warnings

__all__ = [
    "AuthMode",
    "BadSettings",
    "Settings",
    "conflicts",
    "fill_in_development",
    "is_sample",
    "load_settings",
    "present_keys",
    "read_rates",
    "remove_secrets",
    "secret_names",
    "setting_warnings",
]
