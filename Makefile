# make demo | make test | make lint: each makes the virtual environment on its first use and needs nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STORE ?= swg-store

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

.PHONY: install demo test test-slow lint clean
install: $(VENV)/installed

demo: install
	@SWGCTL_SCOPE=demo; export SWGCTL_SCOPE; set -e; \
	evaluation=$$($(BIN)/swgctl run demo --store $(STORE)); \
	scores=$$($(BIN)/swgctl plot rho "$$evaluation" --store $(STORE)); \
	weights=$$($(BIN)/swgctl plot weights "$$evaluation" --store $(STORE)); \
	echo "evaluation:         $$evaluation"; \
	echo "score against rho:  $$scores"; \
	echo "weights' histogram: $$weights"

test: install
	$(BIN)/python -m pytest

test-slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
