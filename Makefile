# Two commands do everything: `make train` and `make test`.
VENV ?= .venv
BIN := $(VENV)/bin
# Empty takes the newest of these that runs.
PYTHON ?=
PYTHONS := $(foreach each,3.14 3.13 3.12 3.11,python$(each) $(wildcard $(HOME)/.pyenv/versions/$(each).*/bin/python)) python3
# 4.0.0, or 2.3.7, which loco-mujoco pins, on Python 3.11; what $(VENV) has, where there is one.
MUJOCO ?= $(or $(patsubst $(VENV)/installed-%,%,$(wildcard $(VENV)/installed-*)),4.0.0)

TASK ?= simple
ALGORITHM ?= gail
SEED ?= 0
WARM_START ?= 0
DEMONSTRATIONS ?= trot
# Empty is run_gail.py's own default: as many steps as the task takes, and runs/TASK-ALGORITHM.
STEPS ?=
RESULTS_DIR ?=
# For test-upstream: a checkout of imitation-lib; empty where it is installed.
IMITATION_LIB ?=
# For test: the least share of the lines of qi_ext that its tests must run, in percent.
COVERAGE ?= 88
# Two files at a time: most tests use one processor.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: help named setup setup-video setup-warp train watch test test-fast test-all test-slow test-slurm test-gpu test-upstream reproduce lock lint format clean

help:
	@echo "make train       install, train, evaluate; takes TASK=hard STEPS=200000 SEED=1 WARM_START=60 ALGORITHM=vail"
	@echo "                 DEMONSTRATIONS=file.npz RESULTS_DIR=runs/mine; run again, it goes on, or starts beside other settings"
	@echo "make watch       install, film the published agent as it walks in 8 directions: walk.mp4, in a minute; once make setup-video"
	@echo "make test        install, lint, run the fast tests"
	@echo "make test-fast   install, run the fast tests"
	@echo "make test-all    install, run what make test leaves out, but experiments and GPUs; what is not installed is skipped"
	@echo "make test-slow   install, run the experiments (minutes each)"
	@echo "make test-slurm  install, run sweeps on a Slurm that is started for it; fails where Slurm is not installed"
	@echo "make test-gpu    install, run what needs a real GPU; skipped where torch finds none"
	@echo "make test-upstream IMITATION_LIB=DIR   install, run what needs imitation-lib, against a checkout of it"
	@echo "make reproduce   install, rerun one seed of each experiment that results/experiments.yaml marks, compare with results/"
	@echo "make setup       install into $(VENV); takes PYTHON=python3.12 MUJOCO=2.3.7"
	@echo "make setup-video install what films are drawn with (Debian, Ubuntu)"
	@echo "make setup-warp  install MuJoCo Warp, for --physics warp"
	@echo "make lock        resolve requirements.txt anew"
	@echo "make lint        install, check style, and that no part of qi_ext imports one above it"
	@echo "make format      let ruff format the code"
	@echo "make clean       remove $(VENV) and caches; runs/ stays"

setup: $(VENV)/installed-$(MUJOCO)

$(VENV)/installed-%: requirements.txt setup.cfg pyproject.toml $(if $(PYTHON),named)
	@sh install.sh $(VENV) $* $(or $(PYTHON),$(PYTHONS))

# A Python that is named is compared with that of $(VENV).
named:

# Needs uv. PyTorch brings its own libraries for GPUs.
lock:
	uv pip compile -q --universal --python-version 3.11 --no-annotate --no-header --extra dask --extra dev --extra minari \
		--extra onnx --extra sweep setup.cfg requirements.in --override requirements-override.txt -o requirements.txt
	sed -i -E '/^(nvidia|cuda|triton)\b/d' requirements.txt

# MuJoCo Warp, 400 MB; by uv where it is installed.
setup-warp: setup
	@if command -v uv >/dev/null; then uv pip install -q --python $(BIN)/python mujoco-warp==$(MUJOCO); \
	else $(BIN)/python -m pip install -q --disable-pip-version-check mujoco-warp==$(MUJOCO); fi

# As root where that is needed.
setup-video:
	$$([ "$$(id -u)" = 0 ] || echo sudo) sh -c "apt-get update -qq && apt-get install -y -qq --no-install-recommends libegl1 libgl1-mesa-dri"

train: setup
	$(BIN)/python launchers/run_gail.py --task $(TASK) --algorithm $(ALGORITHM) --seed $(SEED) --warm_start $(WARM_START) \
		$(if $(STEPS),--n_steps $(STEPS)) --demonstrations "$(DEMONSTRATIONS)" --results_dir "$(RESULTS_DIR)" --resume auto

# One episode of each direction, by the agent that comes with the package; needs no training.
watch: setup
	$(BIN)/python launchers/record.py --agent pretrained/hard --grid --seconds 4 --output walk.mp4

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint test-fast

test-fast: setup
	$(PYTEST) -m "not extensive and not slurm and not slow and not gpu" --cov --cov-fail-under=$(COVERAGE)

# The longest files first, so that the two processes end together.
LONGEST := tests/patches/test_probes.py tests/sweeps tests/benchmarks tests/test_documentation.py tests/launchers

test-all: setup
	$(PYTEST) --no-loadscope-reorder -m "(extensive or slurm) and not slow and not gpu" $(LONGEST) tests

test-slow: setup
	$(BIN)/python -m pytest -m slow

test-slurm: setup
	ALL_INSTALLED=1 $(BIN)/python -m pytest -m "slurm and not slow"

test-gpu: setup
	$(BIN)/python -m pytest -m gpu

test-upstream: setup
	IMITATION_LIB="$(IMITATION_LIB)" $(BIN)/python -m pytest tests/patches/upstream

reproduce: setup
	$(BIN)/python benchmarks/results.py check

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .coverage *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
