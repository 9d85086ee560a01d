"""docs/architecture.md: its paths exist, and every runtime dependency has a reason."""

import re
import tomllib
from collections import Counter

import pytest

from tests.programs import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()
MAP, _, DEPENDENCIES = PAGE.partition("\n## Runtime dependencies\n")
CODE_PATH = re.compile(r"`((?:app|sdk|server|kit|tests|requirements)/[^`…]*)`")
LAYER = re.compile(r"^  (\w+(?: · \w+)*) {2,}\S", re.MULTILINE)
ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def test_every_path_of_the_map_exists() -> None:
    paths = set(CODE_PATH.findall(PAGE))
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_the_map_has_a_row_for_every_topic_and_a_path_in_every_row() -> None:
    rows = [row for row in ROW.findall(MAP) if row[0] != "topic" and "---" not in row[0]]
    assert len(rows) > 80
    assert [topic for topic, files in rows if not CODE_PATH.search(files)] == []
    repeated = [topic for topic, times in Counter(topic for topic, _ in rows).items() if times > 1]
    assert repeated == []


def test_every_folder_of_the_packages_has_a_file_on_the_map() -> None:
    """Every folder of the packages has a row."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    folders = {
        str(path.parent.relative_to(ROOT))
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        if path.parent.name != "_sync"
    }
    named = CODE_PATH.findall(MAP)
    assert [one for one in sorted(folders) if not any(path.startswith(one) for path in named)] == []


@pytest.mark.parametrize("package", ["chat_broker", "chat_broker_server", "chat_broker_sdk"])
def test_the_layers_on_the_page_are_those_of_the_contract(package: str) -> None:
    """All layers are drawn but `__main__` and the SDK's lowest layer, which the page summarises."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = (one["layers"] for one in contracts if one.get("containers") == [package])
    expected = [set(re.split(r" [|:] ", layer)) for layer in layers if layer != "__main__"]
    block = re.search(
        rf"^[^\n]*`{package}`[^\n]*:\n\n```\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE
    )
    assert block is not None
    shown = [set(names.split(" · ")) for names in LAYER.findall(block[1])]
    assert shown == (expected[:-1] if package == "chat_broker_sdk" else expected)


def test_every_runtime_dependency_has_one_line_that_says_why() -> None:
    """tests/test_floors.py finds dependencies that no module imports."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = sorted(re.split(r"[\[><=; ]", one)[0] for one in project["dependencies"])
    reasons = re.findall(r"^\| `([^`]+)` \| \S.+ \|$", DEPENDENCIES, re.MULTILINE)
    assert reasons == declared
