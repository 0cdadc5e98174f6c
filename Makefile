# Everything this project does, by name; plain `make` lists it. Needs Python 3.11 or newer, git and make.
#
#   make test PYTHON=python3.13     choose the interpreter (used when .venv is made)
#   make unit ARGS="-k canvas -x"   hand options to pytest
#   make test PROCESSES=4           test processes at once

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

VENV      ?= .venv
PYTHON    ?=
PROCESSES ?= 2
ARGS      ?=

BIN       := $(VENV)/bin
READY     := $(VENV)/.installed
PYTEST    := $(BIN)/python -m pytest
PARALLEL  := -n $(PROCESSES) --dist worksteal

# A Python that can make a virtual environment: new enough, with venv and ensurepip (Debian ships these apart).
SUITABLE   := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: help
help:  ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# Only when setup.cfg, pyproject.toml or constraints.txt changed. `-qq` hides pip's remarks, not its errors.
$(READY): setup.cfg pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	    found=; \
	    for candidate in $(CANDIDATES); do \
	        if "$$candidate" -c '$(SUITABLE)' >/dev/null 2>&1; then found=$$candidate; break; fi; \
	    done; \
	    if [ -z "$$found" ]; then \
	        echo "make: no usable Python among: $(CANDIDATES)" >&2; \
	        echo "make: needs Python 3.11 or newer with venv and ensurepip (on Debian: python3-venv);" >&2; \
	        echo "make: name one with: make PYTHON=/path/to/python3" >&2; \
	        exit 1; \
	    fi; \
	    echo "making $(VENV) with $$("$$found" --version)"; \
	    "$$found" -m venv --clear $(VENV); \
	}
	@echo "installing into $(VENV) (about a minute the first time)"
	@$(BIN)/python -m pip install -qq -c constraints.txt -e '.[embedded,test,dev]'
	@touch $@

.PHONY: install
install: $(READY)  ## make .venv and install everything into it

.PHONY: demo
demo: $(READY)  ## the main job on embedded servers: crash a worker, resume, compare hashes
	@$(BIN)/aos demo

.PHONY: test
test: unit  ## the whole suite except what is marked slow (the test command)
	$(PYTEST) $(PARALLEL) -m "not slow" --ignore=tests/unit tests $(ARGS)

.PHONY: unit
unit: $(READY)  ## tests that need no service
	$(PYTEST) $(PARALLEL) -m "not slow" tests/unit $(ARGS)

.PHONY: conformance
conformance: $(READY)  ## every canvas shape, in process and through a real worker
	$(PYTEST) $(PARALLEL) tests/conformance $(ARGS)

.PHONY: corpus
corpus: $(READY)  ## every planted fault is named with its line, nothing is said against clean workflows
	$(PYTEST) $(PARALLEL) tests/corpus $(ARGS)

.PHONY: chaos
chaos: $(READY)  ## every test that kills something, the slow ones too
	$(PYTEST) -m chaos $(ARGS)

.PHONY: lint
lint: $(READY)  ## ruff, mypy --strict and the import floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict aos_workflow workers beat
	$(BIN)/lint-imports --no-logo

.PHONY: format
format: $(READY)  ## put the code into the shape that lint asks for
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lock
lock: $(READY)  ## resolve constraints.txt again from setup.cfg
	@$(BIN)/python -m pip install -qq uv
	$(BIN)/uv pip compile setup.cfg --quiet --upgrade --all-extras --universal --python-version 3.11 \
	    --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" -o constraints.txt

.PHONY: wheel
wheel: $(READY)  ## build the source archive and the wheel into dist/
	$(BIN)/python -m build --no-isolation

.PHONY: clean
clean:  ## remove what was built and cached (keeps .venv and .aos)
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
