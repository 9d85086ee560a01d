"""Every `pip install` line of the docs names this project's distributions."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"chat-broker", "chat-broker-sdk"}
OTHERS = {"aiohttp", "httptools"}
"""Distributions of other projects that the docs may name."""
INSTALL = re.compile(
    r"\b(?:pip3?|pipx|uv(?: pip)?|poetry)\s+(?:install|add)\s+([^`#\n]*)|\buvx\s+(\S+)"
)
WORD = re.compile(r"""(?:[^\s"']|"[^"]*"|'[^']*')+""")
PLACES = ("app", "sdk", "server", "kit", "docs", "examples", "scripts", "benchmarks")


def texts() -> list[Path]:
    """All texts for users: docs, READMEs, docstrings and messages."""
    found = [path for path in ROOT.iterdir() if path.suffix == ".md"]
    for place in PLACES:
        found += [
            path
            for path in (ROOT / place).rglob("*")
            if path.suffix in {".md", ".py", ".toml", ".mjs"}
        ]
    return sorted(found)


def named(line: str) -> set[str]:
    """The distributions that an install command in *line* names; paths and options are none."""
    names = set()
    for match in INSTALL.finditer(line):
        for word in WORD.findall(match[1] or match[2]):
            bare = word.strip("\"'`.,;:)(")
            if re.match(r"[A-Za-z0-9]", bare) and "/" not in word:
                names.add(re.split(r"[\[=<>~!;@]", bare)[0].lower())
            elif not word.startswith(("-", ".", "/")):
                break
    return names


def test_no_text_names_a_distribution_that_is_neither_ours_nor_known() -> None:
    strangers = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in texts()
        for line in path.read_text().splitlines()
        for name in named(line) - OURS - OTHERS
    }
    assert strangers == set()


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("pip install 'chat-broker-sdk[realtime]'", {"chat-broker-sdk"}), ("`pip install aiohttp`. For asyncio", {"aiohttp"}),
        ("python -m pip install --upgrade chat-server==1", {"chat-server"}), ("uv add chat-broker-sdk", {"chat-broker-sdk"}),
        ("pip install ./sdk", set()), ("uvx chat-broker-sdk conformance", {"chat-broker-sdk"}),
    ],
)  # fmt: skip
def test_an_install_command_is_seen(line: str, names: set[str]) -> None:
    assert named(line) == names


def test_our_distributions_are_called_what_the_texts_say() -> None:
    for folder, name in ((ROOT, "chat-broker"), (ROOT / "sdk", "chat-broker-sdk")):
        assert tomllib.loads((folder / "pyproject.toml").read_text())["project"]["name"] == name
