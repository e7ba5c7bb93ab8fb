# Two commands for a fresh machine with Python 3.12, git and make: `make demo` and `make test`.
PYTHON ?= python3.12
BIN := .venv/bin
INSTALLED := .venv/.installed
TOOLS := .venv/.tools

.PHONY: demo test check bench docs mutants fuzz install

demo: install
	$(BIN)/stillhouse run demo

# Two files of tests at once: much of an integration test is waiting for processes to start. The long ones come first.
test: install $(TOOLS)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# The page and the JSON schemas of a run's files, from the models that write them.
docs: install
	$(BIN)/python -m orchestrator.report.reference docs

bench: install
	$(BIN)/python -m benchmarks

# Changes of the source that no test notices: all, or `PATHS=models/losses.py SAMPLE=200`. What was tried is remembered.
mutants: install
	$(BIN)/python -m tests.mutants $(PATHS) $(if $(SAMPLE),--sample $(SAMPLE))

# Damaged and hostile inputs of every kind: 13,300 of them, or `KINDS="yaml json" COUNT=500 SEED=7`. 3 to 15 minutes on 2 cores.
fuzz: install
	$(BIN)/python -m tests.fuzz $(KINDS) $(if $(COUNT),--count $(COUNT)) $(if $(SEED),--seed $(SEED))

install: $(INSTALLED)

# A browser and Prometheus for the tests of the pages and of the metrics. Where they cannot be installed, these skip.
$(TOOLS): $(INSTALLED)
	@for tool in chromium prometheus; do \
		command -v $$tool >/dev/null && continue; \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$tool; } \
			>/dev/null 2>&1 || echo "no $$tool here: its tests will be skipped"; \
	done
	@touch $@

# Compiling once saves every Ray worker of every run from doing it again.
$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "uv>=0.9"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -e ".[dev]"
	touch $@
