"""No dependency is older than the release that closed a hole which matters here, and none is there for nothing."""

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

FLOORS = {
    "python-socketio": "5.16.3",  # pickles over Redis; reserved events
    "python-engineio": "4.13.3",
    "starlette": "1.3.1",  # malformed Host header; form limits
    "h11": "0.16.0",  # chunked-encoding smuggling
    "redis": "4.5.5",  # replies crossing between cancelled commands
    "joserfc": "1.8.0",
}

REACHED_INTO = {
    "aiohttp": "sdk/chat_broker_sdk/_transports/aiohttp_handler.py",
    "httpx": "sdk/chat_broker_sdk/_async/stream.py",
    "python-engineio": "server/chat_broker_server/realtime/polling_upgrade.py",
    "python-socketio": "server/chat_broker_server/realtime/socketio_library.py",
    "uvicorn": "kit/chat_broker_kit/http/protocol.py",
    "websockets": "server/chat_broker_server/realtime/uvicorn_takeover.py",
}
"""Libraries with the first place that uses what they do not document: docs/architecture.md lists them all."""

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


def _requirements(path: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / path).read_text())["project"]
    extras = project.get("optional-dependencies", {}).values()
    return [Requirement(one) for some in (project["dependencies"], *extras) for one in some]


@pytest.mark.parametrize("project", ["pyproject.toml", "sdk/pyproject.toml"])
def test_what_is_reached_into_has_an_upper_bound(project: str) -> None:
    """And the bound lets in what is installed, with which everything has been tried."""
    bounded = [one for one in _requirements(project) if one.name in REACHED_INTO]
    assert bounded
    for one in bounded:
        assert any(each.operator == "<" for each in one.specifier), f"{one} has no upper bound"
        assert one.specifier.contains(version(one.name)), f"{one} forbids {version(one.name)}"


def test_all_that_is_reached_into_is_a_dependency() -> None:
    assert REACHED_INTO.keys() <= {one.name for one in _requirements("pyproject.toml")}


_PRIVATE = re.compile(
    r"uvicorn\.(?:protocols|supervisors)|_network_backend|connector\._factory|aiohttp\.client_proto|engineio\.async_socket"
    r"|socketio\.AsyncManager\)"
)


def test_every_place_that_reaches_into_a_library_is_in_the_table() -> None:
    """docs/architecture.md says of each what it looks for, and what happens without."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.partition("## Library insides")[2]
    folders = ("app", "kit", "server", "sdk")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    reaching = [path for path in files if _PRIVATE.search(path.read_text())]
    assert len(reaching) > 6
    generated = ROOT / "sdk" / "chat_broker_sdk" / "_sync"
    missing = [
        path
        for path in reaching
        if generated not in path.parents and path.relative_to(ROOT).as_posix() not in table
    ]
    assert not missing


@pytest.mark.parametrize("package", ["python-multipart", "pyjwt", "python-jose"])
def test_a_library_we_chose_to_do_without_is_not_installed(package: str) -> None:
    """No form parser (there are no forms), and one judge of tokens, not two."""
    with pytest.raises(PackageNotFoundError):
        version(package)


def test_python_is_new_enough() -> None:
    assert sys.version_info >= (3, 11)
