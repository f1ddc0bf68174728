# Everything starts here.  `make` alone lists the commands.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run demo serve install test test-fast test-postgres test-e2e test-faults test-newest \
	check fix bench faults docs lock clean

PORT ?= 8000
HOST ?= 127.0.0.1
WORKERS ?= 1
export PORT HOST WORKERS
export PATH := $(CURDIR)/.venv/bin:$(PATH)

BIN := .venv/bin
PYTEST := -m pytest
FAST_TESTS := tests --ignore=tests/e2e --ignore=tests/benchmarks
# Tests that reach the database.  The pure protocol and the benchmarks do not.
DATABASE_TESTS := $(FAST_TESTS) --ignore=tests/protocol
UV_COMPILE := $(BIN)/uv pip compile --quiet --all-extras --group dev --upgrade --generate-hashes \
	--no-header --no-emit-index-url --no-annotate
# The first interpreter of a version that really starts: a pyenv shim may have nothing behind it.
find-python = $(shell for python in python$(1) python3 $(HOME)/.pyenv/versions/$(1)*/bin/python; do \
	"$$python" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$(1)')" 2>/dev/null && \
	echo "$$python" && break; done)

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: install ## set up and serve the demo site on PORT (8000)
	@$(BIN)/python manage.py demo --banner $(PORT)
	@exec $(BIN)/python manage.py runserver --noreload 127.0.0.1:$(PORT)

demo: run ## the same as run

serve: install ## serve in production form: HOST, PORT, WORKERS, REDIS_URL, DATABASE_URL, REALTIME_APP_*
	@exec scripts/serve

install: .venv/.installed node_modules/.installed ## install the locked Python and npm packages

.venv/.installed: requirements/py311-django52.txt scripts/install-python
	@scripts/install-python "$(call find-python,3.11)" .venv requirements/py311-django52.txt
	@touch $@

.venv313/.installed: requirements/py313-django61.txt scripts/install-python
	@scripts/install-python "$(call find-python,3.13)" .venv313 requirements/py313-django61.txt
	@touch $@

node_modules/.installed: package.json package-lock.json scripts/install-node | .venv/.installed
	@scripts/install-node
	@touch $@

test: test-fast test-postgres test-e2e test-faults test-newest ## set up and run every test

test-fast: install ## fast tests on SQLite
	@scripts/install-package /usr/bin/cc gcc
	@scripts/install-package /usr/include/dlfcn.h libc6-dev
	$(BIN)/python $(PYTEST) $(FAST_TESTS)

test-postgres: install ## fast tests that reach the database, on PostgreSQL
	@scripts/install-package "/usr/lib/postgresql/*/bin/initdb" postgresql
	$(BIN)/python -m tests.services --postgres -- $(BIN)/python $(PYTEST) $(DATABASE_TESTS)

test-e2e: install ## real servers, browsers, clients and libraries
	@scripts/install-package "/usr/lib/postgresql/*/bin/initdb" postgresql
	@scripts/install-package /usr/bin/chromium chromium
	$(BIN)/python $(PYTEST) tests/e2e

test-faults: install ## the short lane of the fault table, three minutes at most
	@scripts/install-package "/usr/lib/postgresql/*/bin/initdb" postgresql
	$(BIN)/python -m tests.chaos --lane short

test-newest: ## fast tests on Python 3.13 with Django 6.1
	@if [ -n "$(call find-python,3.13)" ]; then \
		$(MAKE) --no-print-directory .venv313/.installed && \
		exec .venv313/bin/python $(PYTEST) $(FAST_TESTS); \
	else \
		echo "Left out: the pass on Python 3.13 with Django 6.1 needs python3.13, which is not here."; \
	fi

check: install ## format, lint, types, layers, migrations, system checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python manage.py check
	@find static realtime/static tests/e2e/node -name "*.*js" -not -name "*.min.js" 2>/dev/null | \
		while read -r file; do node --check "$$file" || exit 1; done

fix: install ## format and apply the safe lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install ## measure beside other servers: all, QUICK=1, or ONLY=scenario
	@scripts/install-package "/usr/lib/postgresql/*/bin/initdb" postgresql || true
	@scripts/install-package /usr/bin/cc gcc || true
	$(BIN)/python -m tests.bench $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

# SCALE and SOAK_MINUTES, too, reach the command: make exports what its command line sets.
faults: install ## inject faults and check the promises: all rows, or ROW=A1 [SEED=n] [LANE=short]
	@scripts/install-package "/usr/lib/postgresql/*/bin/initdb" postgresql
	@scripts/install-package /usr/bin/cc gcc
	@scripts/install-package /usr/include/dlfcn.h libc6-dev
	$(BIN)/python -m tests.chaos $(if $(ROW),--row $(ROW)) $(if $(SEED),--seed $(SEED)) \
		$(if $(LANE),--lane $(LANE))

docs: install ## build the docs; warnings are errors
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

lock: .venv/.installed ## resolve the newest versions into the lock files
	@$(BIN)/python -m pip install --quiet uv
	$(UV_COMPILE) --python-version 3.11 pyproject.toml requirements/py311-django52.in \
		--output-file requirements/py311-django52.txt
	$(UV_COMPILE) --python-version 3.13 pyproject.toml requirements/py313-django61.in \
		--output-file requirements/py313-django61.txt
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-header --no-emit-index-url \
		--no-annotate --universal --python-version 3.11 requirements/nodejs.in \
		--output-file requirements/nodejs.txt
	npm install --package-lock-only

clean: ## remove what these commands built; the data in var/ stays
	rm -rf .venv .venv313 node_modules build dist docs/_build htmlcov .coverage
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
