# `make demo` and `make test` on a fresh clone; both make .venv from requirements.txt first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all fuzz soak results bench lower-bounds lint clean

demo: .venv/installed
	$(BIN)/python test.py

# in several processes, one a core; four at most, since each takes about a gigabyte
test: .venv/installed
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# and the tests of minutes, which want the cores to themselves: thirty kills, two hosts
test-all: test
	$(BIN)/python -m pytest -m slow

# twenty thousand hostile and broken files and command lines; `make test` has three hundred of them
fuzz: .venv/installed
	$(BIN)/python -m tests.robustness.fuzz --cases 20000

soak: .venv/installed
	$(BIN)/python -m tests.robustness.soak

# make results SAMPLE=path PHOTOS=path: measures the README's table again and compares; columns whose data is not given are left out
results: .venv/installed
	$(BIN)/python -m tools.results --check README.md $(if $(SAMPLE),--sample "$(SAMPLE)") $(if $(PHOTOS),--photos "$(PHOTOS)")

bench: .venv/installed
	$(BIN)/python -m tools.benchmark

# the lower bounds of requirements.txt, in an environment of their own (4 GB, some minutes)
lower-bounds:
	tools/lower_bounds.sh

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

clean:
	rm -rf .venv results
