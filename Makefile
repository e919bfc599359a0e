# make demo: the whole system on this machine, with a sample gallery or IMAGES=folder
# make test: every test that needs nothing but PyPI (browser tests where there is a Chromium)
# make test-fast: the tests that start no server and train no network

PORT ?= 8080
DATA ?= ./data
IMAGES ?=
# Processes that run tests at the same time: one more than the cores of a small machine, since many tests wait for
# servers. A whole system may run beside each, in about 2 GB.
JOBS ?= 3

# TensorFlow has wheels for these; the first one found makes the environment.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo up test test-fast lint format bench bench-check lock protos clean

demo: $(VENV)/stack
	@$(BIN)/python -m local --demo --data "$(DATA)" --port "$(PORT)" $(if $(IMAGES),--images "$(IMAGES)")

up: $(VENV)/stack
	@$(BIN)/artseek up --data "$(DATA)" --port "$(PORT)"

# The processes share the cores: threads of their own would only wait for each other. And they are many, so that byte
# code is kept whatever the environment says.
test-fast: export OPENBLAS_NUM_THREADS = 1
test test-fast: export PYTHONDONTWRITEBYTECODE =

test: $(VENV)/dev
	$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/dev
	$(BIN)/pytest tests/unit -m "not slow" --hypothesis-profile=fast -p no:schemathesis -n $(JOBS) --dist loadfile

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Table, plot and figures of the index go to build/bench; its options can be given as BENCH="--quick --contrast 1.8".
bench: $(VENV)/bench
	$(BIN)/python -m benchmarks.ingest
	$(BIN)/python -m benchmarks.search
	$(BIN)/python -m benchmarks.backbones
	$(BIN)/python -m benchmarks.index $(BENCH)

# Whether Artseek has become slower, in ten minutes: ratios beside those in benchmarks/ratios.json. BENCH=--renew writes
# them there.
bench-check: $(VENV)/bench
	$(BIN)/python -m benchmarks.check $(BENCH)

protos: $(VENV)/dev
	$(BIN)/python scripts/protos.py

# The environment: pinned, hashed, no resolver at work. `dev` contains `stack`.
$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "artseek needs Python 3.11, 3.12 or 3.13 on the PATH (or PYTHON=/path/to/it)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make an environment; on Debian and Ubuntu: apt install python3-venv" >&2; rm -rf $(VENV); exit 1; }

$(VENV)/stack: requirements/stack.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --require-hashes -r requirements/stack.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev: requirements/dev.txt $(VENV)/stack
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --require-hashes -r requirements/dev.txt
	@touch $@

# Libraries that come as source alone are skipped where they cannot be compiled; the benchmark says so.
$(VENV)/bench: requirements/bench.txt requirements/bench-source.txt $(VENV)/stack
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --require-hashes -r requirements/bench.txt
	@mkdir -p build
	@$(BIN)/python -m pip install --disable-pip-version-check --no-deps --require-hashes --no-build-isolation \
		-r requirements/bench-source.txt >build/bench-source.log 2>&1 \
		|| echo "annoy and hnswlib are skipped: they come as source, and could not be compiled; see build/bench-source.log" >&2
	@touch $@

# Renews every lock file, all of them from one resolution, so that no two services disagree on a version.
lock:
	$(PYTHON) scripts/lock.py

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
