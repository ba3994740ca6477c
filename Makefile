# make quickstart   train a LapCVAE and a VAE on cartoon faces, compare them, and draw a picture: about twelve minutes of one core
# make test         the test suite, without the tests marked slow
# make test-all     all of it
# make check        linters, types, formatting, and the native build with warnings as errors
# make bench        every operation against OpenCV, kornia, scikit-image and PyTorch: results and a picture in out/bench

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := pyproject.toml setup.py CMakeLists.txt constraints.txt $(wildcard csrc/*.cpp csrc/*.h csrc/*/*)
# No fallback from one backend to another, and no skipping of those that every machine has.
# Threads that wait sleep: the other process needs the core.
STRICTLY := LAPCORE_STRICT=1 LAPCORE_TEST_BACKENDS=cpu,triton OMP_WAIT_POLICY=passive
# CUDA, where there are nvcc and a card, is built for that card.
ifneq ($(shell nvidia-smi -L 2> /dev/null),)
export CUDAARCHS ?= $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)-real
endif
# All targets share one build, and its warnings are errors; LAPCORE_WERROR=0 builds in spite of those of another compiler.
export LAPCORE_WERROR ?= 1
# How many processes share the tests out.
WORKERS ?= 2
CPP := $(wildcard csrc/*.cpp csrc/*.h csrc/*/*.cpp csrc/*/*.h csrc/*/*.cu)

.PHONY: quickstart test test-all check bench format clean
.DELETE_ON_ERROR:

quickstart: $(VENV)/quickstart.stamp
	$(BIN)/python -m lapcore.bench.quickstart --out out/quickstart

test: $(VENV)/dev.stamp
	$(STRICTLY) $(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder -m "not slow"

test-all: $(VENV)/dev.stamp
	$(STRICTLY) $(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CPP)

bench: $(VENV)/bench.stamp
	$(BIN)/lapcore bench --peers --json out/bench/cpu.json --plot out/bench/cpu.png

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

clean:
	rm -rf build out $(VENV) lapcore/_C*.so lapcore/_build.json *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "lapcore needs Python 3.11 or newer; say which one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV) || \
	    { rm -rf $(VENV); echo "no virtual environment could be made; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@test -e "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" || \
	    echo "note: Python's headers are missing, so no C++ kernels will be built; on Debian and Ubuntu: apt-get install python3-dev"

# The package and its native code, which build/ keeps the objects of. Its build requirements are installed beside it: in an
# isolated build pybind11 lies elsewhere each time, and the bindings are compiled again.
$(VENV)/lapcore.stamp: $(SOURCES) | $(VENV)/bin/python
	$(PIP) install --quiet -c constraints.txt "setuptools>=77" cmake ninja pybind11
	$(PIP) install --quiet -c constraints.txt --no-build-isolation -e .
	@touch $@

# What the extras ask for; the package itself is there.
$(VENV)/%.stamp: $(VENV)/lapcore.stamp
	$(PIP) install --quiet -c constraints.txt "lapcore[$*]"
	@touch $@
