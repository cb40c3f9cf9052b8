# `make demo` and `make test` set up what they need. GNU make, Python 3.11 or newer, nothing else.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
BIN := .venv/bin
.PHONY: help setup demo check test format

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
test: setup ## all tests, on a real Valkey and real engines
	@$(BIN)/pytest
format: setup ## let ruff format and mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
