# make demo | make test | make lint: each makes the virtual environment on its first use and needs nothing else.
# make test-fast: what neither trains, nor simulates for long, nor draws pictures; make test-portable: the numbers, as
# other processors have them; make test-slow: minutes of proof.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STORE ?= swg-store

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

.PHONY: install demo test test-fast test-portable test-ogbench test-slow bench-gpu lint clean
install: $(VENV)/installed

demo: install
	@SWGCTL_SCOPE=demo; export SWGCTL_SCOPE; set -e; \
	evaluation=$$($(BIN)/swgctl run demo --store $(STORE)); \
	scores=$$($(BIN)/swgctl plot rho "$$evaluation" --store $(STORE)); \
	weights=$$($(BIN)/swgctl plot weights "$$evaluation" --store $(STORE)); \
	echo "evaluation:         $$evaluation"; \
	echo "score against rho:  $$scores"; \
	echo "weights' histogram: $$weights"

# Two processes share two cores, so each computes in one thread.  What reads a clock comes after them, alone.
PARALLEL := $(BIN)/python -m pytest -n 2 --dist worksteal
FAST := 'not slow and not timing and not training'

test: install
	OMP_NUM_THREADS=1 $(PARALLEL) -m 'not slow and not timing'
	$(BIN)/python -m pytest -m 'timing and not slow'

test-fast: install
	OMP_NUM_THREADS=1 $(PARALLEL) -m $(FAST) --ignore tests/learners --ignore tests/training --ignore tests/plots

# Other instructions, other numbers of threads: sums in another order, and the last bits with them.  Several threads have
# the machine for one process: those of two would wait for each other.
NUMBERS := tests/diffusion tests/models tests/toys tests/learners tests/training tests/policies/test_diffusion.py \
	tests/evaluation tests/test_weights.py

test-portable: install
	@set -e; for settings in ATEN_CPU_CAPABILITY=default ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 \
		'OMP_NUM_THREADS=1 MKL_NUM_THREADS=1' 'OMP_NUM_THREADS=2 MKL_NUM_THREADS=2' \
		'OMP_NUM_THREADS=4 MKL_NUM_THREADS=4' MKL_CBWR=COMPATIBLE; do \
		echo "$$settings"; \
		case "$$settings" in *THREADS=[24]*) processes=0;; *) processes=2;; esac; \
		env OMP_NUM_THREADS=1 $$settings $(BIN)/python -m pytest -n $$processes --dist worksteal -m $(FAST) $(NUMBERS); \
	done

# OGBench's environments, relabelling and oracles, with the package.
test-ogbench: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,ogbench]'
	$(BIN)/python -m pytest -m 'not timing' tests/tasks/ogbench

test-slow: install
	$(BIN)/python -m pytest -m slow

# On a machine with a GPU: ten minutes; then `python -m swgctl.bench.gpu protocol`.
bench-gpu: install
	$(BIN)/python -m swgctl.bench.gpu

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
