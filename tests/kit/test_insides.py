"""What a class of ours needs of a library is looked for before it is used; what is lacking is named."""

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from chat_broker.cli import workers
from chat_broker.fast_path.protocol import FastPathProtocol
from chat_broker_kit.http.choose_protocol import BOUNDED, choose_protocol
from chat_broker_kit.http.protocol import BoundedHttpProtocol
from chat_broker_kit.insides import misfit

FAST_PATH = "chat_broker.fast_path.protocol:FastPathProtocol"
LACKING = {HttpToolsProtocol: ("will_be_there_in_2030",)}


class Library:
    def __init__(self) -> None:
        self.made_at_once = 1

    def begin(self) -> None:
        self.made_later = 2

    def take(self, one: int, *, other: int = 0) -> None: ...


class Fitting(Library):
    def take(self, one: int, *, other: int = 0) -> None: ...


class Older(Library):
    def take(self, one: int) -> None: ...  # type: ignore[override]  # the point


def test_names_are_found_wherever_the_library_makes_them() -> None:
    assert misfit({Library: ("made_at_once", "made_later", "take")}, Fitting) == ""


def test_what_is_missing_is_named() -> None:
    assert misfit({Library: ("made_at_once", "gone")}) == "Library has no gone"


def test_a_replaced_function_has_the_parameters_of_the_one_it_replaces() -> None:
    assert misfit({}, Older) == "Library.take has other parameters"


def test_ours_fit_what_is_installed() -> None:
    """If this fails after an update, ours would silently be slower: see docs/architecture.md, Library insides."""
    assert choose_protocol(FAST_PATH, BOUNDED) is FastPathProtocol
    assert choose_protocol(BOUNDED) is BoundedHttpProtocol
    assert misfit(workers.NEEDS, workers.Workers) == ""


def test_a_protocol_that_does_not_fit_leaves_its_place_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FastPathProtocol, "NEEDS", LACKING)
    assert choose_protocol(FAST_PATH, BOUNDED) is BoundedHttpProtocol
    monkeypatch.setattr(BoundedHttpProtocol, "NEEDS", LACKING)
    assert choose_protocol(FAST_PATH, BOUNDED) == "httptools"


def test_a_protocol_that_cannot_be_loaded_leaves_its_place_to_the_next() -> None:
    assert choose_protocol("chat_broker_kit.gone:Protocol", BOUNDED) is BoundedHttpProtocol
    assert choose_protocol("chat_broker_kit.http.protocol:Gone") == "httptools"


def test_without_httptools_uvicorn_takes_h11(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat_broker_kit.http.choose_protocol.find_spec", lambda _: None)
    assert choose_protocol(FAST_PATH, BOUNDED) == "h11"
