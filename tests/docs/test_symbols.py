"""Every dotted symbol between backticks in the docs exists in the code."""

import importlib
import re
from pathlib import Path

import pytest

from tests.programs import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))
SYMBOL = re.compile(
    r"`((?:chat_broker|chat_broker_kit|chat_broker_sdk|chat_broker_server)(?:\.\w+)+)`"
)
LINK = re.compile(r"\]\((?!https?://)([^)#]+)(?:#[^)]*)?\)")


def exists(symbol: str) -> bool:
    """Import the longest module prefix of *symbol*, and follow attributes for the rest."""
    names = symbol.split(".")
    for length in range(len(names), 0, -1):
        try:
            found = importlib.import_module(".".join(names[:length]))
        except ModuleNotFoundError:
            continue
        for name in names[length:]:
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_symbol_in_the_docs_exists(page: Path) -> None:
    symbols = set(SYMBOL.findall(page.read_text()))
    assert not [symbol for symbol in sorted(symbols) if not exists(symbol)]


@pytest.mark.parametrize("page", [*PAGES, *sorted(ROOT.glob("*.md"))], ids=lambda page: page.name)
def test_every_local_link_leads_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text())
    assert not [t for t in targets if not (page.parent / t).exists()]


def test_the_trace_of_a_request_names_symbols() -> None:
    """The pages name symbols, so the check above is real."""
    text = (ROOT / "docs" / "request-flow.md").read_text()
    assert len(set(SYMBOL.findall(text))) > 15


def test_a_symbol_that_does_not_exist_is_found_out() -> None:
    assert exists("chat_broker.admission.gate.Gate.admit")
    assert not exists("chat_broker.admission.gate.Gate.admitt")
    assert not exists("app.gatehouse")
