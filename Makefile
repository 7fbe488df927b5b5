PYTHON ?= python3
PROFILE ?= quick
FIGURES ?=

BIN := .venv/bin
REMI := $(BIN)/python -m remi
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
NOTEBOOKS = $(if $(FIGURES),$(foreach name,$(FIGURES) 00 tutorial,$(wildcard notebooks/$(name)_*.ipynb notebooks/$(name)[0-9]_*.ipynb)),notebooks)
AT_ONCE := -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help paper test lab site verify bench notebooks readme scoreboard lock audit clean distclean

help:  ## list the targets
	@awk -F ':.*  ## ' '/^[a-z]+:.*  ## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

paper: .venv/.ready  ## every figure, table and verdict; PROFILE=quick (default), desk or paper; FIGURES="fig1 fig7" for some
	$(REMI) paper --profile $(PROFILE) $(if $(FORCE),--force) $(FIGURES)

test: .venv/.ready  ## lint, types, tests, and every notebook against its stored outputs; FIGURES as above
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(foreach name,$(or $(FIGURES),all),$(REMI) sweep $(name) --profile quick &&) true
	$(BIN)/pytest $(AT_ONCE)
	$(BIN)/pytest $(AT_ONCE) --nbval --nbval-current-env --nbval-cell-timeout=3600 --nbval-sanitize-with tests/nbval_sanitize.cfg $(NOTEBOOKS)

lab: .venv/.ready  ## JupyterLab in the project's environment, with notebooks/00_start_here.ipynb open
	$(BIN)/jupyter-lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb

site: .venv/.ready  ## the notebooks and the reference as a static site in site/, readable from disk; executes nothing
	rm -rf build/site site
	mkdir -p build/site/source
	cp -R docs/. notebooks figures remi/paper/deviations.md build/site/source
	$(BIN)/sphinx-build --quiet --fail-on-warning -c docs -d build/site/doctrees build/site/source build/site/html
	mv build/site/html site
	cp -R figures site

verify: .venv/.ready  ## the robustness tests at full length (half an hour); their counts in figures/verify.csv
	$(BIN)/pytest --long -m verify

notebooks: .venv/.ready  ## re-execute the notebooks in place
	$(REMI) notebooks

readme: .venv/.ready  ## regenerate the tables in README.md
	$(REMI) readme

scoreboard: .venv/.ready  ## the estimate on the field's tasks with known mutual information; hours, goes on where it was; PART="--seeds 0"
	$(REMI) scoreboard $(PART)

bench: .venv/.ready  ## speed beside the alternatives; figures/bench*
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/designs.py
	$(BIN)/python benchmarks/precision.py

lock:  ## resolve requirements.lock again (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate -o requirements.lock

audit:  ## known vulnerabilities of the locked packages (needs pip-audit and the network)
	pip-audit --require-hashes --disable-pip -r requirements.lock

clean:  ## remove runs, builds and caches
	rm -rf runs build site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

distclean: clean  ## clean, and remove .venv
	rm -rf .venv

# The stamps come last, so an interrupted installation starts again from an empty .venv.
.venv/.locked: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || \
		{ echo "remi needs Python 3.11 to 3.13; PYTHON=$(PYTHON) is not. For example: make paper PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing requirements.lock into .venv (a few minutes)"
	@$(PYTHON) -m venv --clear .venv
	@$(PIP) install --require-hashes -r requirements.lock
	@touch $@

.venv/.ready: .venv/.locked pyproject.toml
	@$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@
