"""The sources of settings besides the environment: files in a folder, and `.env`."""

import os
from pathlib import Path

from pydantic import SecretStr

from chat_broker_kit.setting_sources import ENCODING, dotenv_file

SECRETS_DIR = "/run/secrets"


def secrets_folder() -> Path | None:
    """The folder SECRETS_DIR; None if it does not exist."""
    folder = Path(os.environ.get("SECRETS_DIR") or SECRETS_DIR)
    return folder if folder.is_dir() else None


def present_secret(name: str, read_at_start: SecretStr | None) -> str | None:
    """The secret setting *name*, read again from its file or `.env`; *read_at_start* if it is in neither."""
    folder = secrets_folder()
    if folder is not None and (folder / name).is_file():
        return (folder / name).read_text(ENCODING).strip() or None
    dotenv = dotenv_file()
    if value := dotenv.get(name.upper()) or dotenv.get(name):
        return value
    return None if read_at_start is None else read_at_start.get_secret_value()
