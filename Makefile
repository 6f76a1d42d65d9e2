# Everything a newcomer, CI or a release needs. Each target does its own set-up.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: quickstart test long check lint types docs docs-commands pictures mutants survival clean

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

quickstart: $(VENV)/.ready  ## build the sample dataset and look at it
	$(BIN)/medi build --sources all --pipeline quickstart --out out/quickstart --show 3

# Two tests at a time with one kernel thread each: more threads than cores wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

check: $(VENV)/.ready-dev lint types  ## after every change
	$(PYTEST) -m "not slow and not long"

test: $(VENV)/.ready-dev lint types  ## what CI runs
	$(PYTEST) -m "not long"

long: $(VENV)/.ready-dev  ## the tests that take half a minute and more, some ten minutes together
	$(PYTEST) -m long

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready-dev
	$(BIN)/mypy

docs: $(VENV)/.ready-dev  ## the site, into out/site: open out/site/index.html, or python3 -m http.server -d out/site to search it
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

docs-commands: $(VENV)/.ready-dev  ## every command of the tutorial, the how-to pages and a team's month, a quarter of an hour
	$(PYTEST) tests/site/test_commands.py tests/versions/test_month.py

pictures: $(VENV)/.ready-dev  ## docs/pictures, of what the tutorial makes; wants chromium and chromium-driver
	$(BIN)/python -m tools.site.pictures

mutants: $(VENV)/.ready-dev  ## do the tests notice faults? half an hour or so; goes on where it was
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.mutants

survival: $(VENV)/.ready-dev  ## do builds, training, commits, purges ... survive being killed? an hour or two
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.survival

clean:
	rm -rf $(VENV) out .pytest_cache .mypy_cache .ruff_cache .hypothesis
