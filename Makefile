# Everything sets itself up: Python 3.11, git and make are enough (`make test-system` adds Debian's packages).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
WORKERS ?= $(shell expr $$(nproc) + 1)
BIN := .venv/bin
# Neighbouring tests on one worker: what a module's tests share is then built once, not once a worker.
PYTEST := $(BIN)/pytest -q -n $(WORKERS) --dist worksteal
# No Python is fetched from elsewhere: the one that is here is used, and packages come from PyPI alone.
export UV_PYTHON_DOWNLOADS := never
export UV_PYTHON := $(PYTHON)
# Compiled modules are kept: without them every command that a test starts compiles all of its modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup replay test test-system test-all lint format docs clean bench mutants

help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: .venv/.ready ## Make .venv with everything that is needed.

.venv/.ready: pyproject.toml uv.lock
	@uv="$$(command -v uv || true)"; \
	if [ -z "$$uv" ]; then \
	  uv=build/uv/bin/uv; \
	  [ -x "$$uv" ] || { echo "setting up uv in build/uv"; $(PYTHON) -m venv build/uv; build/uv/bin/pip install --quiet --disable-pip-version-check 'uv>=0.7'; }; \
	fi; \
	"$$uv" sync --locked --quiet
	@touch $@

replay: .venv/.ready ## Destroy tenants of an embedded database, restore them, and compare everybody.
	@$(BIN)/outlast replay $(REPLAY)

test: .venv/.ready ## The tests that need nothing but this folder.
	$(PYTEST) -m "not system and not slow" $(TESTS)

test-system: .venv/.ready ## The tests that need Debian's PostgreSQL 15, age, zstd and ssh-keygen (installs them).
	@.ci/packages
	$(PYTEST) -m "system and not slow" $(TESTS)

test-all: .venv/.ready ## Every test, the slow variants too.
	@.ci/packages
	$(PYTEST) $(TESTS)

lint: .venv/.ready ## Style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.ready ## Put the sources into the house's format.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.ready ## Write docs/REFERENCE.md and the README's output anew.
	$(BIN)/python -m tests.docs.write

clean: ## Remove what can be made again.
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

bench: .venv/.ready ## Measure against pg_dump and COPY, and write docs/BENCHMARKS.md (a quarter of an hour).
	$(BIN)/python -m bench $(SCALE)

mutants: .venv/.ready ## Rehearse every mutant of forty correct scripts, and write docs/MUTANTS.md (some minutes).
	$(BIN)/python -m tests.mutation
