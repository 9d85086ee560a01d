"""Finds database files that are no longer used because the settings or the working directory have changed."""

from collections.abc import Iterator
from pathlib import Path

from chat_broker_kit.database.check import exists
from chat_broker_kit.urls.database import is_sqlite, shown_url, sqlite_path


def left_behind(setting: str, url: str | None, data_dir: Path, name: str) -> Iterator[str]:
    """`NAME: why` for each file *name* that is not used although it is in the data folder, or in that of a parent folder.

    *url*: the value of *setting*, which names a database, or a server with its own; None if unset: the file is in DATA_DIR.
    """
    expected = (data_dir / name).absolute()
    if url is None:
        yield from _elsewhere(data_dir, name)
    elif exists(expected) and not _is_file(url, expected):
        yield (
            f"{setting}: {url if url.startswith('http') else shown_url(url)} is used, and {expected} is left behind;"
            f" move that file away, or unset {setting} to use it"
        )


def _is_file(url: str, file: Path) -> bool:
    return is_sqlite(url) and Path(sqlite_path(url)).resolve() == file.resolve()


def _elsewhere(data_dir: Path, name: str) -> Iterator[str]:
    """A relative DATA_DIR depends on the working directory."""
    if data_dir.is_absolute():
        return
    used = (data_dir / name).absolute()
    for folder in Path.cwd().parents:
        other = folder / data_dir / name
        if exists(other):
            yield (
                f"DATA_DIR: {used} is used, and {other} is left behind;"
                f" set DATA_DIR={other.parent} to use that one, or DATA_DIR={used.parent}"
            )
