# datavault: `make run` shows it, `make test` tests it. Both install what they need into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(wildcard proto/vault/v1/*.proto)
PYTEST_ARGS ?=
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install run test check lint types layers proto proto-check bench clean

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "datavault needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

install: $(VENV)/.installed  ## make .venv with all that development needs

run: install  ## start the service on an embedded default and show what it does
	@$(BIN)/datavault demo

test: install  ## run all tests
	@$(BIN)/python -m pytest -n auto --dist loadgroup $(PYTEST_ARGS)

check: lint types layers proto-check  ## ruff, mypy --strict, layers, buf lint, generated code

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: install
	@$(BIN)/mypy

layers: install
	@$(BIN)/lint-imports

proto: install  ## generate vault/v1 from proto/
	@$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=. --grpc_python_out=. --mypy_out=. --mypy_grpc_out=. $(PROTOS)

proto-check: install
	@$(BIN)/buf lint
	@$(BIN)/buf format --diff --exit-code
	@rm -rf build/proto && mkdir -p build/proto
	@$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=build/proto --grpc_python_out=build/proto --mypy_out=build/proto --mypy_grpc_out=build/proto $(PROTOS) 2>build/protoc.log || { cat build/protoc.log; exit 1; }
	@diff -r -x __pycache__ -x __init__.py build/proto/vault/v1 vault/v1 || { echo "vault/v1 is not a fresh generation: run make proto"; exit 1; }

bench: install  ## measure the read path against a bare echo
	@$(BIN)/python -m bench

clean:  ## remove .venv, caches and the demo's data
	@rm -rf $(VENV) .datavault build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
