# `make` alone lists the targets. On a machine with Python 3.11 to 3.13 and make, every target
# first builds .venv from requirements.lock, which takes versions and hashes from there alone.
.DEFAULT_GOAL := help
.PHONY: help install demo dev test faults fuzz lint audit sbom bench lock clean

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
  $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
  && echo $$python && break; done)
BIN := .venv/bin
STAMP := .venv/.installed
UV := uv==0.13.8
AUDIT := pip-audit==2.10.0
SBOM := cyclonedx-bom==7.5.0
LOCKS := requirements.lock lakehouse/services/local_bigquery.lock benchmarks/requirements.lock

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## Build .venv from the lock; does nothing where it is up to date.
	@:

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed and none was found."; exit 1; }
	@echo "Building .venv from requirements.lock (a minute or two, once) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(UV)
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --compile-bytecode --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q lakehouse
	@$(BIN)/python -m lakehouse.resources.dbt_project
	@touch $@

demo: install ## The main job: build all data sets from sample sources and show what came out.
	@$(BIN)/lakehouse demo

dev: install ## Dagster's UI with all assets, at http://127.0.0.1:3000.
	@$(BIN)/dagster dev

test: install ## All tests.
	@$(BIN)/python -m pytest -n 2 --dist loadfile || { \
	  echo "What failed runs once more, by itself: some tests wait for what a busy machine delays."; \
	  $(BIN)/python -m pytest --last-failed --last-failed-no-failures none; }

faults: install ## The bad day rehearsed in full: over 200 kills, full disks, failing services; an hour.
	@$(BIN)/python -m pytest tests/faults --full -n 2 --dist load

fuzz: install ## The readers' fuzzing for some minutes; `make test` does a little of it.
	@FUZZ_EXAMPLES=5000 $(BIN)/python -m pytest tests/fuzzing -n 2

lint: install ## Ruff and the type checker.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

audit: install ## Look for known vulnerabilities of the locked dependencies; needs PyPI.
	@$(BIN)/uv tool run --quiet --from $(AUDIT) pip-audit --strict --disable-pip --require-hashes \
	  --progress-spinner off $(addprefix -r ,$(LOCKS)) || { \
	  echo "Not clean: what stands above has a known vulnerability; or, where it says 'not found on PyPI',"; \
	  echo "PyPI's vulnerability service cannot be reached from this machine and nothing was audited."; \
	  exit 1; }

sbom: install ## Write what the lock holds as CycloneDX, to dist/sbom.cdx.json; the same lock, the same bytes.
	@mkdir -p dist
	@PYTHONWARNINGS=ignore $(BIN)/uv tool run --quiet --from $(SBOM) cyclonedx-py requirements \
	  requirements.lock --pyproject pyproject.toml --output-reproducible -o dist/sbom.cdx.json

bench: install .venv-bench/.installed ## Measure us beside the original's way and beside the bare bound; prints ratios.
	@$(BIN)/python -m benchmarks

# The originals' tools, which nothing else needs.
.venv-bench/.installed: benchmarks/requirements.lock
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-bench
	@$(BIN)/uv pip sync --quiet --python .venv-bench/bin/python --compile-bytecode --require-hashes $<
	@touch $@

lock: install ## Resolve the dependencies anew.
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header \
	  --python-version 3.11 pyproject.toml --extra local --group dev -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header \
	  --python-version 3.11 --group bench -o benchmarks/requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header \
	  --python-version 3.13 lakehouse/services/local_bigquery.in -o lakehouse/services/local_bigquery.lock

clean: ## Remove what was built; the data below .lakehouse stays.
	@rm -rf .venv .venv-bench dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
