# `make demo` and `make test` set up what they need. GNU make, Python 3.11 or newer, nothing else.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
BIN := .venv/bin
.PHONY: help setup demo check test chaos fuzz format

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'
setup: ## make .venv and install everything into it (first time: minutes; then: nothing)
	@$(PYTHON) scripts/setup.py
demo: setup ## run the whole stack, rank three sets of documents, receive a signed callback
	@$(BIN)/podium demo
check: setup ## format, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
test: setup ## all tests, on a real Valkey and real engines (those without a service of their own side by side)
	@$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile tests/unit tests/integration tests/fundamentals tests/engines
	@$(BIN)/pytest -n 2 --dist loadfile -m "not engine" tests/system
	@$(BIN)/pytest -n 2 --dist loadfile -m engine tests/system
chaos: setup ## kill, pause and restart parts under load, then balance the books (JOBS=, DURATION=, SEED=, ENGINE=vllm, FSYNC=always, WITHOUT=fencing|sweeper)
	@$(BIN)/python -m tests.chaos --jobs $(or $(JOBS),1000) --duration $(or $(DURATION),60) --seed $(or $(SEED),1) \
		--engine $(or $(ENGINE),fake) --fsync $(or $(FSYNC),everysec) $(if $(WITHOUT),--without $(WITHOUT))
fuzz: setup ## requests made from the OpenAPI, valid and not, with keys and without (TIME= seconds, SEED=)
	@$(BIN)/python -m tests.fuzz --time $(or $(TIME),60) $(if $(SEED),--seed $(SEED))
format: setup ## let ruff format and mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
