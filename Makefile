# A fresh machine needs Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test lint bench bench-compare readme docs clean

quickstart: .venv/installed  ## install, then: table, ablation, search and figures, in minutes on two cores
	$(BIN)/lale-bench quickstart

test: .venv/installed-test  ## install what tests need, lint, check types, run the quick tests; SLOW=1 runs all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	SLOW=$(SLOW) $(BIN)/python -m pytest -n 2

lint: .venv/installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

bench: .venv/installed-test  ## run and save the timed benchmarks (nothing timed is ever asserted); ONLY="norm or deployed" runs some
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/benchmarks -o addopts= --benchmark-only --benchmark-autosave \
	  --benchmark-columns=min,median,iqr,rounds --benchmark-group-by=func $(if $(ONLY),-k "$(ONLY)")

bench-compare: .venv/installed-test  ## hold the last two saved runs against each other, or RUNS="0001 0004"
	@runs="$(or $(RUNS),$$(ls .benchmarks/*/*.json 2>/dev/null | tail -n 2 | xargs -rn1 basename | cut -c1-4))"; \
	set -- $$runs; test $$# -eq 2 || { echo "there are no two saved runs: make bench twice, or RUNS=\"0001 0002\"" >&2; exit 1; }; \
	$(BIN)/pytest-benchmark compare $$runs --columns=min,median,iqr --sort=fullname --group-by=func

readme: .venv/installed  ## make the table of `choose` and those of README and docs again from the records under results/
	$(BIN)/python docs/fill_pages.py

docs: .venv/installed  ## build the documentation into build/site
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	$(BIN)/python -m mkdocs build --quiet

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("LALE-Bench needs Python 3.11 or newer; say PYTHON=... to make" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/installed-test: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@ .venv/installed

clean:
	rm -rf .venv runs build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .benchmarks
