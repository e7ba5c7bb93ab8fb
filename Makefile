# Two commands for a fresh machine with Python 3.12, git and make: `make demo` and `make test`.
PYTHON ?= python3.12
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test check bench install

demo: install
	$(BIN)/stillhouse run demo

test: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: install
	$(BIN)/python -m benchmarks

install: $(INSTALLED)

# Compiling once saves every Ray worker of every run from doing it again.
$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "uv>=0.9"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -e ".[dev]"
	touch $@
