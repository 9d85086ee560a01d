"""Reading settings: byte order marks, an orchestrator's service links, and misspelled names."""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource, PydanticBaseSettingsSource
from pydantic_settings.sources import SecretsSettingsSource

ENCODING = "utf-8-sig"
"""UTF-8, with or without the byte order mark that some editors write."""

MAX_LENGTH_DIFFERENCE = 3
_LINK = re.compile(r"(?:tcp|udp|sctp)://[^/\s]+:\d+", re.IGNORECASE)
_LINK_NAME = re.compile(
    r".+_SERVICE_(?:HOST|PORT(?:_.+)?)|.*PORT|.+_PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?"
)


class SecretFiles(SecretsSettingsSource):
    """Settings from files named like them. A byte order mark is dropped."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The value, the key it was read from, and whether it must be parsed."""
        value, key, is_complex = super().get_field_value(field, field_name)
        return (value.removeprefix("\ufeff") if isinstance(value, str) else value), key, is_complex


def without_service_links(source: PydanticBaseSettingsSource) -> PydanticBaseSettingsSource:
    """*source* without the variables that Kubernetes and Docker set for a service named like a setting.

    A service `admin` sets `ADMIN_PORT=tcp://10.96.14.7:8001` in every pod of its namespace.
    """
    if isinstance(source, EnvSettingsSource):
        source.env_vars = {
            name: value
            for name, value in source.env_vars.items()
            if not is_service_link(name, value)
        }
    return source


def is_service_link(name: str, value: str | None) -> bool:
    """Whether the variable holds the address of a service instead of a port number."""
    return name.upper().endswith("PORT") and bool(_LINK.fullmatch(value or ""))


def service_links(known: Collection[str], environ: Mapping[str, str]) -> Iterator[str]:
    """`NAME: why` for each setting of *known* that is ignored because it is a service link."""
    for name, value in environ.items():
        if name.upper() in known and is_service_link(name, value):
            yield (
                f"{name.upper()}: {value} comes from a service of that name, and is ignored;"
                " set enableServiceLinks: false for the pod, or rename the service"
            )


def given_names(environ: Mapping[str, str], folder: Path | None) -> set[str]:
    """The names, in upper case, that have a value in *environ*, in `.env`, or in a file in *folder*."""
    names = {name for name, value in environ.items() if value and not is_service_link(name, value)}
    names |= {name for name, value in dotenv_file().items() if value}
    if folder is not None:
        names |= {file.name for file in folder.iterdir() if file.is_file()}
    return {name.upper() for name in names}


def dotenv_file() -> Mapping[str, str | None]:
    """The variables of `.env` in the working directory, without interpolation; empty if there is no such file."""
    if not Path(".env").is_file():
        return {}
    return dotenv_values(".env", interpolate=False, encoding=ENCODING)


def unknown_names(
    given: Iterable[str], known: Collection[str], prefixes: tuple[str, ...] = (), *, alike: float
) -> Iterator[str]:
    """`NAME: there is no such setting`, with the nearest one, for each name that looks like a setting.

    A name looks like a setting if it begins with one of *prefixes*, or has at least the similarity *alike* (0 to 1) to
    a setting that is not set itself. Names of service links are skipped.
    """
    names = set(given)
    for name in sorted(names - set(known)):
        if _LINK_NAME.fullmatch(name) and not _is_misspelled_port(name, known):
            continue
        nearest = _nearest(name, _comparable(name, set(known) - names), alike)
        if nearest:
            yield f"{name}: there is no such setting; did you mean {nearest[0]}?"
        elif name.startswith(prefixes) and prefixes:
            yield f"{name}: there is no such setting; remove it, or see .env.example for its name"


def _comparable(name: str, known: Iterable[str]) -> list[str]:
    """The settings that *name* could be a misspelling of. Comparing it with all of them takes a tenth of the start-up time."""
    return [
        each
        for each in known
        if abs(len(each) - len(name)) <= MAX_LENGTH_DIFFERENCE
        and (each[:1] == name[:1] or each[1:3] == name[1:3] or each[-3:] == name[-3:])
    ]


def _is_misspelled_port(name: str, known: Collection[str]) -> bool:
    return bool(_nearest(name, [each for each in known if each.endswith("PORT")], 0.9))


def _nearest(name: str, candidates: list[str], alike: float) -> list[str]:
    if not candidates:
        return []
    import difflib  # most environments hold no name that has to be compared

    return difflib.get_close_matches(name, candidates, 1, alike)


def unreadable_files(folder: Path | None) -> Iterator[str]:
    """`FILE: why` for each settings file that cannot be read as UTF-8 text."""
    files = [Path(".env")] + ([] if folder is None else sorted(folder.iterdir()))
    for file in files:
        try:
            if file.is_file():
                file.read_text(ENCODING)
        except UnicodeDecodeError:
            yield f"{file}: is not UTF-8 text; save it as UTF-8"
        except OSError as error:
            yield f"{file}: cannot be read ({error.strerror}); make user {os.geteuid()} its owner"
