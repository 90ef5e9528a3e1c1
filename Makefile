# make demo: all three jobs on real data.  make test: the tests.  Both set up .venv by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test slow matrix lint format docs bench clean

demo: $(READY)
	$(BIN)/python scripts/demo.py --output demo

# Two workers with one thread each; a file stays with one worker, since its tests share fixtures.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile

# What takes minutes, and how long each takes.
slow: $(READY)
	$(BIN)/python -m pytest -m slow --durations=0

# The tests on every Python that is found, and on the oldest torch that is promised: large downloads.
matrix:
	$(PYTHON) scripts/matrix.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site, every snippet of it executed: build/site/index.html opens from disk.
docs: $(VENV)/docs
	mkdir -p build/pages
	PATH="$(CURDIR)/$(BIN):$$PATH" NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build
	@echo "open build/site/index.html"

$(VENV)/docs: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $(VENV)/docs

bench: $(READY)
	$(BIN)/python scripts/bench_layers.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'wsl needs Python 3.11 or later: make PYTHON=python3.11 ...' or None)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
