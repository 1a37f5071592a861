# Two commands do all their own set-up on a fresh Debian or Ubuntu machine:   make demo   and   make test
PYTHON ?= python3
BIN := .venv/bin
APT := apt-get install python3 python3-venv g++ make git

SEED ?= 0
JOBS ?= 2

.PHONY: help demo proof test test-pi lint bench bench-transfer bench-architectures tour quality clean check
help:
	@echo "make demo    build the demo's variants, measure them on this computer, write the report (under 10 minutes)"
	@echo "make test    lint, types and every test that this machine can run"
	@echo "make proof   are intervals, comparisons, schedule, energy and statuses right on devices whose truth is known? SEED=0"
	@echo "make test-pi boot a Debian arm64 machine in QEMU and measure on it over SSH (needs root; takes a while)"
	@echo "make bench   what the runner costs, against a bare loop and ExecuTorch's Python runtime"
	@echo "make tour    every compression technique on the demo's digits (about 20 minutes)"
	@echo "make quality do they keep the accuracy that they should, over four seeds? (about 15 minutes)"
	@echo "make bench-architectures   int8 and channel pruning on ResNet-18 and MobileNetV2 at 224x224"
	@echo "make clean   remove the virtual environment and what the demo made"

check:
	@missing=""; \
	command -v $(PYTHON) >/dev/null || missing="$$missing python3"; \
	command -v g++ >/dev/null || missing="$$missing g++"; \
	command -v git >/dev/null || missing="$$missing git"; \
	if command -v $(PYTHON) >/dev/null && ! $(PYTHON) -c "import ensurepip, venv" 2>/dev/null; then missing="$$missing python3-venv"; fi; \
	if [ -n "$$missing" ]; then echo "missing:$$missing"; echo "try:  $(APT)"; exit 1; fi; \
	if ! $(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))"; then \
	echo "Python 3.11 or newer is needed, $$($(PYTHON) --version) is here"; echo "try:  make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; exit 1; fi

.venv/.made: | check
	@echo "making .venv (a few minutes at the first time: PyTorch and ExecuTorch are large)"
	@$(PYTHON) -m venv .venv
	@touch $@

# pip that was killed leaves packages in halves, over which it stumbles the next time
define install
@if [ -e .venv/.half ]; then echo "an installation was interrupted: making .venv anew"; \
$(PYTHON) -m venv --clear .venv; touch .venv/.made; fi
@touch .venv/.half
@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0 -e ".[$(1)]"
@rm .venv/.half
endef

.venv/.demo: .venv/.made pyproject.toml constraints.txt
	$(call install,compress)
	@touch $@

.venv/.dev: .venv/.made pyproject.toml constraints.txt
	$(call install,all)
	@touch $@ .venv/.demo

# its last line is the report's path
demo: check .venv/.demo
	@$(BIN)/harness run configs/demo.yaml

proof: check .venv/.dev
	@$(BIN)/python -m benchmarks.proof.run $(SEED)

lint: check .venv/.dev
	@$(BIN)/ruff check .
	@$(BIN)/mypy

# JOBS tests at once, and then those that measure, alone (tests/together.py)
test: lint
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not measuring"
	@$(BIN)/python -m pytest -m measuring

test-pi: check .venv/.dev
	@HARNESS_TEST_PI=1 $(BIN)/python -m pytest tests/pi -v

bench: check .venv/.dev
	@$(BIN)/python benchmarks/runner_cost.py

bench-transfer: check .venv/.dev
	@$(BIN)/python benchmarks/transfer.py

tour: check .venv/.dev
	@$(BIN)/harness run configs/compression-tour.yaml

quality: check .venv/.dev
	@$(BIN)/python benchmarks/quality.py

bench-architectures: check .venv/.dev
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps pytorchcv==0.0.74
	@$(BIN)/python benchmarks/architectures.py

clean:
	rm -rf .venv .harness reports/*.html
