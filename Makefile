# datavault: `make run` shows it, `make test` tests it. Both install what they need into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(wildcard proto/vault/v1/*.proto)
PYTEST_ARGS ?=
COMPILED_TESTS ?= tests/golden tests/property $(wildcard $(addprefix tests/unit/test_, admission* audit_append* \
  audit_record* compiled* consent_* crypto_e* crypto_hygiene* crypto_keyring* crypto_tenant* disclosing_* \
  policy_engine* policy_forms* policy_live* reads* server_data* store_reader*)) \
  tests/conformance/test_audit_backends.py $(wildcard tests/integration/test_pipeline_* \
  tests/integration/test_hardening_worker_*) tests/integration/test_fixes_service_log.py \
  tests/e2e/test_reading.py tests/e2e/test_batches.py
BENCH_ARGS ?=
# what is measured: python, compiled, or auto: compiled where there is a C compiler
BUILD ?= auto
SCALE_ARGS ?=
SOAK_SECONDS ?= 240
# tools that read deploy/, and Helm where `make helm` has built it
TOOLS := build/deploy-tools
LOWEST := build/lowest
HELM_VERSION := v4.3.1
GHZ_VERSION := v0.120.0
export PATH := $(CURDIR)/$(BIN):$(CURDIR)/$(TOOLS)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install run test check lint types layers proto proto-check bench chaos clean
.PHONY: compiled test-compiled
.PHONY: lint-deploy helm chart lock check-lowest bench-quick bench-compare bench-keep bench-guard ghz
.PHONY: bench-scale bench-overload bench-soak bench-plots

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "datavault needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

install: $(VENV)/.installed  ## make .venv with all that development needs

run: install  ## start the service on an embedded default and show what it does
	@$(BIN)/datavault demo

# compiled once: hundreds of processes would each do it, where PYTHONDONTWRITEBYTECODE is set
test: install  ## run all tests
	@$(BIN)/python -m compileall -q vault tests
	@$(BIN)/python -m pytest -n auto --dist loadgroup $(PYTEST_ARGS)

compiled: install  ## a copy of all this in build/compiled, its read path compiled by mypyc (needs a C compiler)
	@$(BIN)/python compiled_tree.py

test-compiled: install  ## the tests of the read path there (COMPILED_TESTS=tests: all of them)
	@$(BIN)/python compiled_tree.py compiled -m pytest -n auto --dist loadgroup $(PYTEST_ARGS) $(COMPILED_TESTS)

check: lint types layers proto-check lint-deploy  ## ruff, mypy --strict, layers, buf lint, generated code, deploy/

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

$(TOOLS)/.installed: deploy/tools.txt
	@test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	@echo "installing into $(TOOLS) (once) ..."
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement deploy/tools.txt
	@touch $@

lint-deploy: install $(TOOLS)/.installed  ## Dockerfile, Compose file, chart and unit, by the tools that are here
	@$(BIN)/python deploy/lint.py

helm: $(TOOLS)/.installed  ## build Helm with Go into build/deploy-tools
	@GOBIN=$(CURDIR)/$(TOOLS)/bin go install helm.sh/helm/v4/cmd/helm@$(HELM_VERSION)

chart: install  ## render the chart into tests/golden/chart (needs helm)
	@$(BIN)/python deploy/helm/render.py

# for the image's Python and system, whatever this machine has; nothing of it, and no registry, stands in the result
LOCK = $(TOOLS)/bin/uv pip compile --quiet --python-version 3.13 --python-platform linux --generate-hashes --no-emit-index-url --no-emit-find-links --only-binary :all: --upgrade --custom-compile-command "make lock"
lock: $(TOOLS)/.installed  ## newest versions that are allowed, with hashes, for the image
	@$(LOCK) --extra server --extra objects pyproject.toml --output-file deploy/requirements.txt
	@$(LOCK) deploy/requirements-build.in --output-file deploy/requirements-build.txt

check-lowest: $(TOOLS)/.installed  ## all tests with the lowest versions that pyproject.toml allows
	@test -x $(LOWEST)/bin/python || $(TOOLS)/bin/uv venv --quiet --python $(PYTHON) $(LOWEST)
	@$(TOOLS)/bin/uv pip compile --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --extra dev pyproject.toml --output-file $(LOWEST)/requirements.txt
	@$(TOOLS)/bin/uv pip sync --quiet --python $(LOWEST)/bin/python $(LOWEST)/requirements.txt
	@$(TOOLS)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --no-deps --editable .
	@$(LOWEST)/bin/python -m pytest -n auto --dist loadgroup $(PYTEST_ARGS)

chaos: install  ## three servers on one PostgreSQL under faults (CHAOS_SECONDS=600 CHAOS_SEED=...)
	@$(BIN)/python -m tests.chaos

bench: install  ## measure every row against its baseline, ten minutes (BENCH_ARGS=... BUILD=python|compiled)
	@$(BIN)/python compiled_tree.py $(BUILD) -m bench $(BENCH_ARGS)

bench-quick: install  ## the same with small sizes, a minute, of the Python sources
	@$(BIN)/python -m bench --quick $(BENCH_ARGS)

bench-compare: install  ## the last run against the kept run of its build
	@$(BIN)/python -m bench --compare

bench-keep: install  ## keep the last run as that of this release and its build
	@$(BIN)/python -m bench --keep

bench-guard: install  ## fail if a ratio of the Python sources is far off the kept run
	@$(BIN)/python -m bench --guard

ghz:  ## build ghz, a load generator with client certificates, with Go into build/ghz
	@GOBIN=$(CURDIR)/build/ghz/bin go install github.com/bojand/ghz/cmd/ghz@$(GHZ_VERSION)

bench-scale: install  ## how cost grows with customers, rules, callers and workers (SCALE_ARGS=--million BUILD=...)
	@$(BIN)/python compiled_tree.py $(BUILD) -m bench.scale $(SCALE_ARGS)

bench-overload: install  ## three times the load that it can bear (BUILD=...)
	@$(BIN)/python compiled_tree.py $(BUILD) -m bench.overload

bench-soak: install  ## minutes of mixed load, memory watched (SOAK_SECONDS=240 BUILD=...)
	@$(BIN)/python compiled_tree.py $(BUILD) -m bench.soak --seconds $(SOAK_SECONDS)

bench-plots: install  ## draw bench/results/*.json into docs/images
	@$(BIN)/python -c 'import matplotlib' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@$(BIN)/python -m bench.plots

clean:  ## remove .venv, caches and the demo's data
	@rm -rf $(VENV) .datavault build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
