# Everything here needs Python 3.11 or newer and make; the rest is installed into $(VENV).
#
#   make demo       see it work, in a minute
#   make test       all that CI runs: ruff, mypy, the tests
#   make coverage   the tests once more, counting lines
#   make proof      the agreement: every search, model and kill -9, the long ones too (spin, gcc);
#                   and the load generator's verdicts beside what servers know of themselves
#   make every-byte a swap at every byte of every class of connection, plain and over TLS
#   make test-all   the tests on every Python 3.11 to 3.14 that this machine has

VENV ?= .venv
CANDIDATES = python3 python3.14 python3.13 python3.12 python3.11
PYTHON ?= $(shell for p in $(CANDIDATES); do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; \
	done)
BIN = $(VENV)/bin
STAMP = $(VENV)/.stamp
TYPED = $(wildcard netswap protocols loadgen benchmarks)
COVERAGE_FLOOR = 80
PYTEST_OPTIONS ?=

.PHONY: help demo test coverage proof every-byte test-all lint unit bench gallery history soak fuzz lock clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' Makefile
	@echo 'also: make lint, unit, bench, gallery, history, soak, fuzz, lock, clean'

$(STAMP): requirements-dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo 'no Python 3.11 or newer found; make PYTHON=/path/to/python'; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo '$(PYTHON) has no venv module; on Debian: apt-get install python3-venv'; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: $(STAMP)
	@$(BIN)/netswap demo

test: lint unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy --strict $(TYPED)

# three at a time, a file as a whole: much of the time is waiting for processes of the tests' own;
# in the order of conftest.py, which has the long files first, and not by the number of tests
PYTEST = $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
unit: $(STAMP)
	$(PYTEST) $(PYTEST_OPTIONS)

# counting lines takes as long again
coverage: $(STAMP)
	$(PYTEST) --cov --cov-report=term --cov-fail-under=$(COVERAGE_FLOOR) $(PYTEST_OPTIONS)

test-all:
	@set -e; sh .ci/pythons | while read -r version python; do \
		echo "== Python $$version"; \
		$(MAKE) --no-print-directory unit PYTHON="$$python" VENV=".venv-$$version" </dev/null; \
	done

bench: $(STAMP)
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.web $(if $(PEERS),--peers $(PEERS))

gallery: $(STAMP)
	$(BIN)/python -m benchmarks.gallery

history: $(STAMP)
	$(BIN)/python -m benchmarks.history

soak: $(STAMP)
	$(BIN)/python -m benchmarks.soak

proof: $(STAMP)
	$(BIN)/python -m pytest -s -m 'not fuzz' tests/machines/test_agreement.py \
		tests/machines/test_promela.py tests/system/test_kill_walk.py tests/test_structure.py \
		tests/loadgen/test_against_the_server.py $(PYTEST_OPTIONS)

every-byte: $(STAMP)
	$(BIN)/python -m pytest -n 2 -v -m 'not fuzz' \
		tests/protocols/test_classes.py tests/protocols/test_swappable.py $(PYTEST_OPTIONS)

fuzz: $(STAMP)
	$(BIN)/python -m pytest -m fuzz --hypothesis-profile fuzz --timeout 0 $(PYTEST_OPTIONS)

# pins for all supported Pythons: run on 3.11.0 to 3.11.2, which needs a superset of the others;
# with extras: pip 23's --require-hashes takes coverage[toml] to be unpinned where coverage is pinned
LOCK = $(BIN)/pip-compile --quiet --no-strip-extras --allow-unsafe --generate-hashes --no-header \
	--no-annotate --no-emit-options --no-emit-index-url --no-emit-trusted-host --no-emit-find-links
lock: $(STAMP)
	$(BIN)/python -m pip install --quiet pip-tools
	$(LOCK) --output-file deploy/requirements.txt pyproject.toml
	$(LOCK) --extra test --constraint deploy/requirements.txt --output-file requirements-dev.txt pyproject.toml
	sed 's/\[.*\]==/==/' requirements-dev.txt >$(VENV)/pins.txt # a constraint names no extras
	$(LOCK) --all-build-deps --only-build-deps --constraint $(VENV)/pins.txt \
		--output-file deploy/requirements-build.txt pyproject.toml

clean:
	rm -rf .venv .venv-* build dist htmlcov .coverage .coverage.* .hypothesis \
		.mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
