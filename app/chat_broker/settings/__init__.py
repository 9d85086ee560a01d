"""Everything an operator can set, read once at start and never changed."""

from chat_broker.settings.conflicts import BadSettings, conflicts, is_sample
from chat_broker.settings.load import (
    fill_in_development,
    load_settings,
    present_keys,
    remove_secrets,
    secret_names,
)
from chat_broker.settings.model import Settings
from chat_broker.settings.values import AuthMode, read_rates
from chat_broker.settings.warnings import name_warnings, setting_warnings

__all__ = [
    "AuthMode",
    "BadSettings",
    "Settings",
    "conflicts",
    "fill_in_development",
    "is_sample",
    "load_settings",
    "name_warnings",
    "present_keys",
    "read_rates",
    "remove_secrets",
    "secret_names",
    "setting_warnings",
]
