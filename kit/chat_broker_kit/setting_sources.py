"""What comes between settings and the places they are read from: byte order marks, links of an orchestrator, misspelt names."""

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
"""UTF-8 with or without a byte order mark, which editors on Windows write."""

MOST_LETTERS_MORE = 3
_LINK = re.compile(r"(?:tcp|udp|sctp)://[^/\s]+:\d+", re.IGNORECASE)
_LINK_NAME = re.compile(
    r".+_SERVICE_(?:HOST|PORT(?:_.+)?)|.*PORT|.+_PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?"
)


class SecretFiles(SecretsSettingsSource):
    """Files named like settings, without a byte order mark."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """See SecretsSettingsSource."""
        value, key, is_complex = super().get_field_value(field, field_name)
        return (value.removeprefix("\ufeff") if isinstance(value, str) else value), key, is_complex


def without_service_links(source: PydanticBaseSettingsSource) -> PydanticBaseSettingsSource:
    """The environment without what Kubernetes and Docker put there for a service named like a setting.

    A service `admin` makes `ADMIN_PORT=tcp://10.96.14.7:8001` in every pod of its namespace.
    """
    if isinstance(source, EnvSettingsSource):
        source.env_vars = {
            name: value
            for name, value in source.env_vars.items()
            if not is_service_link(name, value)
        }
    return source


def is_service_link(name: str, value: str | None) -> bool:
    """Does *name* hold the address of a service, and not the number of a port?"""
    return name.upper().endswith("PORT") and bool(_LINK.fullmatch(value or ""))


def service_links(known: Collection[str], environ: Mapping[str, str]) -> Iterator[str]:
    """For each setting of *known* that is left alone because of a link, `NAME: why`."""
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
    """What `.env` in the present folder says, taken literally; empty if there is none."""
    if not Path(".env").is_file():
        return {}
    return dotenv_values(".env", interpolate=False, encoding=ENCODING)


def unknown_names(
    given: Iterable[str], known: Collection[str], prefixes: tuple[str, ...] = (), *, alike: float
) -> Iterator[str]:
    """For each name that is no setting but looks like one, `NAME: there is no such setting` and the nearest.

    It looks like one if it begins with one of *prefixes*, or is as *alike* (0 to 1) to a setting that is not
    given itself. Names of an orchestrator's links are nobody's settings.
    """
    names = set(given)
    for name in sorted(names - set(known)):
        if _LINK_NAME.fullmatch(name) and not _is_misspelt_port(name, known):
            continue
        nearest = _nearest(name, _comparable(name, set(known) - names), alike)
        if nearest:
            yield f"{name}: there is no such setting; did you mean {nearest[0]}?"
        elif name.startswith(prefixes) and prefixes:
            yield f"{name}: there is no such setting; remove it, or see .env.example for its name"


def _comparable(name: str, known: Iterable[str]) -> list[str]:
    """Those that *name* could be a slip of: comparing with all of them would be a tenth of a start."""
    return [
        each
        for each in known
        if abs(len(each) - len(name)) <= MOST_LETTERS_MORE
        and (each[:1] == name[:1] or each[1:3] == name[1:3] or each[-3:] == name[-3:])
    ]


def _is_misspelt_port(name: str, known: Collection[str]) -> bool:
    return bool(_nearest(name, [each for each in known if each.endswith("PORT")], 0.9))


def _nearest(name: str, candidates: list[str], alike: float) -> list[str]:
    if not candidates:
        return []
    import difflib  # most environments hold no name that has to be compared

    return difflib.get_close_matches(name, candidates, 1, alike)


def unreadable_files(folder: Path | None) -> Iterator[str]:
    """For each file of settings that is no UTF-8 text, `FILE: why`."""
    files = [Path(".env")] + ([] if folder is None else sorted(folder.iterdir()))
    for file in files:
        try:
            if file.is_file():
                file.read_text(ENCODING)
        except UnicodeDecodeError:
            yield f"{file}: is not UTF-8 text; save it as UTF-8"
        except OSError as error:
            yield f"{file}: cannot be read ({error.strerror}); make user {os.geteuid()} its owner"
