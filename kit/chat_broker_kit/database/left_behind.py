"""Databases that a start leaves behind, because it looks elsewhere than the one before."""

from collections.abc import Iterator
from pathlib import Path

from chat_broker_kit.urls.database import is_sqlite, shown_url, sqlite_path


def left_behind(setting: str, url: str | None, data_dir: Path, name: str) -> Iterator[str]:
    """For each file *name* that is not used although it lies where the data might be, `NAME: why`.

    *url* is the value of *setting*, of a database or of a server that has its own; None if it is unset, so that DATA_DIR says where the file is.
    """
    expected = (data_dir / name).absolute()
    if url is None:
        yield from _elsewhere(data_dir, name)
    elif _is_there(expected) and not _is_file(url, expected):
        yield (
            f"{setting}: {url if url.startswith('http') else shown_url(url)} is used, and {expected} is left behind;"
            f" move that file away, or unset {setting} to use it"
        )


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except PermissionError:  # in a folder of another user
        return False


def _is_file(url: str, file: Path) -> bool:
    return is_sqlite(url) and Path(sqlite_path(url)).resolve() == file.resolve()


def _elsewhere(data_dir: Path, name: str) -> Iterator[str]:
    """A relative DATA_DIR names another folder for each folder that one starts in."""
    if data_dir.is_absolute():
        return
    used = (data_dir / name).absolute()
    for folder in Path.cwd().parents:
        other = folder / data_dir / name
        if _is_there(other):
            yield (
                f"DATA_DIR: {used} is used, and {other} is left behind;"
                f" set DATA_DIR={other.parent} to use that one, or DATA_DIR={used.parent}"
            )
