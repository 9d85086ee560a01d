"""No dependency is older than the release that closed a hole which matters here, and none is there for nothing."""

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

import pytest
from packaging.version import Version

FLOORS = {
    "python-socketio": "5.16.3",  # pickles over Redis; reserved events
    "python-engineio": "4.13.3",
    "starlette": "1.3.1",  # malformed Host header; form limits
    "h11": "0.16.0",  # chunked-encoding smuggling
    "redis": "4.5.5",  # replies crossing between cancelled commands
    "joserfc": "1.8.0",
}

LOADED_BY_OTHERS = {
    "sniffio": "httpcore looks for it at every call",
    "uvloop": "uvicorn loads it by name",
    "websockets": "uvicorn loads it by name",
}
ROOT = Path(__file__).parent.parent


def test_every_dependency_of_the_wheel_is_imported_by_it() -> None:
    """One that no module imports is none; what another library loads is named above."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = {re.split(r"[\[><=; ]", one)[0] for one in project["project"]["dependencies"]}
    folders = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    pattern = re.compile(r"^\s*(?:from|import) (\w+)", re.MULTILINE)
    modules = {name for path in files for name in pattern.findall(path.read_text())}
    owners = packages_distributions()
    imported = {
        re.sub(r"[._]", "-", owner.lower()) for name in modules for owner in owners.get(name, ())
    }
    assert declared - imported - LOADED_BY_OTHERS.keys() == set()


@pytest.mark.parametrize(("package", "floor"), FLOORS.items())
def test_a_dependency_is_not_older_than_its_floor(package: str, floor: str) -> None:
    assert Version(version(package)) >= Version(floor)


@pytest.mark.parametrize("package", ["python-multipart", "pyjwt", "python-jose"])
def test_a_library_we_chose_to_do_without_is_not_installed(package: str) -> None:
    """No form parser (there are no forms), and one judge of tokens, not two."""
    with pytest.raises(PackageNotFoundError):
        version(package)


def test_python_is_new_enough() -> None:
    assert sys.version_info >= (3, 11)
