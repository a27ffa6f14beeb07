# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints.txt
# Tests run on every core; each has a store and a server of its own.
PYTEST_WORKERS ?= auto

.PHONY: system-packages demo test test-slow test-interop bench lint format types imports docs docs-check check-python clean

demo: $(VENV)/demo.stamp
	$(BIN)/unspool demo

test: system-packages $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) -m "not slow and not interop" -q

# The long fault campaigns: a hundred kills at random moments, and the like.
test-slow: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) -m slow -q --timeout 1800

# A real Arize Phoenix server, in an environment of its own: it brings a hundred packages.
PHOENIX_VENV ?= .venv-phoenix
test-interop: $(VENV)/dev.stamp $(PHOENIX_VENV)/phoenix.stamp
	PHOENIX=$(abspath $(PHOENIX_VENV))/bin/phoenix $(BIN)/python -m pytest -m interop -q

$(PHOENIX_VENV)/phoenix.stamp: | check-python
	$(PYTHON) -m venv $(PHOENIX_VENV)
	$(PHOENIX_VENV)/bin/python -m pip install -q "arize-phoenix==20.26.1"
	touch $@

bench: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/dev.stamp
	$(BIN)/mypy

imports: $(VENV)/dev.stamp
	$(BIN)/lint-imports

docs: $(VENV)/dev.stamp
	$(BIN)/python docs/generate.py

docs-check: $(VENV)/dev.stamp
	$(BIN)/python docs/generate.py --check

check-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "unspool needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }

# The terminal tests need tmux, the browser tests Chromium with its driver. On Debian as root they are installed; elsewhere
# the tests that need them say they were skipped.
system-packages:
	@missing=""; command -v tmux >/dev/null 2>&1 || missing="tmux"; \
	command -v chromium >/dev/null 2>&1 && command -v chromedriver >/dev/null 2>&1 || missing="$$missing chromium chromium-driver"; \
	[ -z "$$missing" ] || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 \
	  && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; } \
	  || echo "not installed: $$missing; the tests that need it will be skipped"

$(VENV)/bin/python: | check-python
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c $(CONSTRAINTS) -e '.[demo]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c $(CONSTRAINTS) -e '.[all,dev]'
	@touch $@ $(VENV)/demo.stamp

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
