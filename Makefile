# Everything a person or CI calls. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := app sdk server kit tests scripts examples benchmarks

.DEFAULT_GOAL := help
.PHONY: help setup run test check format lock bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(STAMP)  ## a .venv with the locked dependencies and the commands; a no-op when nothing changed

$(STAMP): requirements/setup.lock requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ". Say which to use: make PYTHON=python3.12 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/setup.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-build-isolation --no-deps --editable .
	@touch $@

run: setup  ## the broker as .env says; in development mode, on http://127.0.0.1:8000, where it says nothing
	@$(BIN)/chat-broker serve --development

test: setup  ## the whole test suite; REQUIRE_SERVICES=1 makes a skip a failure
	@$(BIN)/python scripts/test.py

check: setup  ## format, lint, types, import contracts, generated files up to date
	@$(BIN)/python scripts/check.py

format: setup  ## rewrite the source as the formatter wants it, and the generated files
	@$(BIN)/ruff format --quiet $(SOURCES)
	@$(BIN)/ruff check --quiet --fix $(SOURCES)

lock: $(STAMP)  ## resolve the dependencies anew (UPGRADE=1: to the newest releases)
	@UPGRADE=$(UPGRADE) $(BIN)/python scripts/lock.py

bench: setup  ## the benchmarks, side by side with their peers, as ratios
	@$(BIN)/python -m benchmarks

clean:  ## forget the environment and caches; data/ stays
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache tests/e2e/node_modules
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
