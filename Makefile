# Two commands do all the set-up: `make run` and `make test`. Needs Python 3.11 to 3.13, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install -c constraints.txt
SOURCES := pyproject.toml constraints.txt

.PHONY: run test test-slow test-gpu bench bars setup lint clean help

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/.ready ## audit the claims on this machine, on real data; writes audit/report.html and report.json
	$(BIN)/tithe audit --quick

test: $(VENV)/.ready-dev ## fast tests, lint, types and floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal

test-slow: $(VENV)/.ready-dev ## tests that take minutes
	$(BIN)/python -m pytest -m "slow and not gpu"

test-gpu: $(VENV)/.ready-dev ## tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

bench: $(VENV)/.ready-dev ## side-by-side measurements against peers; hours: each resumes where it was
	@for peer in $$(sed 's/#.*//' benchmarks/peers.txt); do $(PIP) "$$peer" || echo "$$peer does not install here"; done
	$(BIN)/python -m benchmarks.product
	$(BIN)/python -m benchmarks.hashtron
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.sparse_inference
	$(BIN)/python -m benchmarks.golden_layout
	$(BIN)/python -m benchmarks.monitor
	$(BIN)/python -m benchmarks.gradient_filter
	$(BIN)/python -m benchmarks.populations
	$(BIN)/python -m benchmarks.renormalizing
	$(BIN)/python -m benchmarks.lattice
	$(BIN)/python -m benchmarks.sum_cache
	$(BIN)/python -m benchmarks.hashtron_backward

bars: $(VENV)/.ready-dev ## every bar: command, figure, target, machine, date
	$(BIN)/python -m benchmarks.bars

setup: $(VENV)/.ready-dev ## everything that development needs

lint: $(VENV)/.ready-dev ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the environment and everything generated
	rm -rf $(VENV) audit build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis benchmarks/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	sys.exit(0 if (3, 11) <= v < (3, 14) else "Tithe needs Python 3.11 to 3.13, this is %d.%d: make PYTHON=python3.12 ..." % v)'
	@echo "Creating a virtual environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: $(BIN)/python $(SOURCES)
	@echo "Installing Tithe and what it needs (PyTorch is the largest; a few minutes the first time) ..."
	@$(PIP) -e '.[plots,energy]'
	@touch $@

$(VENV)/.ready-dev: $(BIN)/python $(SOURCES)
	@echo "Installing Tithe with its development tools (a few minutes the first time) ..."
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.ready
