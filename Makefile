unexport PYTHONDONTWRITEBYTECODE
.PHONY: setup test
setup: .venv/.ready ## make .venv and install the kernel and worker with their tests
.venv/.ready: pyproject.toml
	python3 -m venv .venv
	.venv/bin/pip install -q -e '.[dev]'
	touch $@
test: setup ## set-up, then all tests
	.venv/bin/pytest
