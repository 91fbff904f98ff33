# The one task runner. `make` alone does what CI does.
.DEFAULT_GOAL := test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help install test quick lint demo up bench lock clean

help: ## Show what can be done
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

install: $(INSTALLED) ## Make .venv and install everything from the lock file, hashes checked

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; try make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib salesintel_dagster || true
	@touch $@

test: lint ## Lint, types, layers, then the whole test suite (what CI runs)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

quick: $(INSTALLED) ## The quick loop: domain and flows in seconds, no Dagster, no services
	@# What is compiled is kept: 1.6 s of CPU to collect the tests instead of 3.3.
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --hypothesis-profile=quick --durations=5 --durations-min=0.25 \
		-m 'not slow and not long and not world' salesintel_dagster_tests/domain salesintel_dagster_tests/flows

lint: $(INSTALLED) ## ruff, mypy, import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

demo: $(INSTALLED) ## Seven days of sales through the whole export, on this machine alone
	$(BIN)/salesintel demo

up: $(INSTALLED) ## The Dagster UI and daemon beside the embedded world; Ctrl-C stops all
	$(BIN)/salesintel up

bench: $(INSTALLED) ## Measure speed and memory (minutes); prints the tables of docs/benchmarks.md
	$(BIN)/python -m bench

lock: $(INSTALLED) ## Compile requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --quiet pyproject.toml --extra local --extra ecs --extra mysql --group dev --universal --generate-hashes --no-header --no-strip-extras --upgrade -o requirements.lock

clean: ## Remove the environment and the embedded world's state
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m salesintel_dagster.local.clean .salesintel; fi
	rm -rf $(VENV) .salesintel
