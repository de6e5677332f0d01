# Thin names for what README says. Everything is installed into .venv, from pinned versions.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check install --constraint deploy/constraints.txt
MARKS := not slow and not gpu
THOROUGH := --hypothesis-profile=thorough
# Tests are compiled once, not by every worker of every stage, even where the environment says otherwise.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help serve test test-long bench-gpu lint format audit clean

help:
	@echo 'make serve [ARGS="--port 9000"]   serve the default model, or the one ARGS names'
	@echo 'make test                         lint, types, tests with real processes'
	@echo 'make test-long                    the same and the slow tests'
	@echo 'make bench-gpu PYTHON=python3     what a GPU does, with an interpreter that has PyTorch for it'
	@echo 'make lint | format | audit | clean'

# exec: signals reach the server itself, not a shell in between.
serve: .venv/.serve
	@exec $(BIN)/unisono serve $(ARGS)

test: lint
	$(BIN)/pytest
	$(BIN)/pytest -m 'numerics and not e2e and $(MARKS)'
	$(BIN)/pytest -m 'e2e and $(MARKS)'

test-long: lint
	$(BIN)/pytest $(THOROUGH)
	$(BIN)/pytest $(THOROUGH) -m 'numerics and not e2e and not gpu'
	$(BIN)/pytest $(THOROUGH) -m '(e2e or slow) and not numerics and not gpu'

# Installs nothing: PYTHON has PyTorch for CUDA. Goes on where it was cut off.
bench-gpu:
	@PYTHONPATH=. $(PYTHON) -m tests.bench.gpu $(ARGS)

lint: .venv/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: .venv/.test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Asks PyPI what is known against the pinned versions. Strict: what PyPI does not answer for, as a mirror
# does not, is a failure and no all-clear.
audit: .venv/.python
	$(PIP) --quiet pip-audit
	$(BIN)/pip-audit --strict --requirement deploy/constraints.txt --no-deps --disable-pip

clean:
	rm -rf .venv build dist *.egg-info backend/native/*.so .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Stamps: written last, so that an interrupted installation is resumed by the next call.
.venv/.python:
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.serve: pyproject.toml deploy/constraints.txt $(wildcard backend/native/*.[ch] backend/native/*/*.[chi]*) | .venv/.python
	$(BIN)/python deploy/install_torch.py
	$(PIP) --editable .
	# pip compiles what it copies; this tree it only points to, and three processes would at each start.
	$(BIN)/python -m compileall -q backend gateway
	@touch $@

.venv/.test: .venv/.serve
	$(PIP) --editable '.[test]'
	@touch $@
