# Every target does its own set-up: Python 3.11 or newer and make are all it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SOURCES := pyproject.toml constraints.txt $(shell find api solver closures ingest commands cases -name '*.py' -o -name 'py.typed' -o -name '*.j2' -o -name '*.txt' -o -name '*.toml' -o -name '*.safetensors' -o -name '*.npz')

.PHONY: demo test fuzz bench gpu results docs dist format clean

demo: $(VENV)/.demo
	rm -rf runs/demo runs/demo-waves
	$(BIN)/subgrid compare cases/kolmogorov-demo.toml --out runs/demo
	$(BIN)/subgrid compare cases/shallow-water-coarse.toml --set reference.trajectories=4 --set ensemble.members=4 --out runs/demo-waves

test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p subgrid
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# Some 20 minutes; tests/fuzz/run.py --help says how to repeat one mutation.
fuzz: $(VENV)/.test
	$(BIN)/python tests/fuzz/run.py --cases 1000 --runs 300 --files 300 --jobs 2

bench: $(VENV)/.bench
	$(BIN)/python tests/benchmarks/bench.py

# With a CUDA device 15 minutes, else the stand-ins for one. PART="NAME ...": these parts; BACKEND=cupy: by CuPy. What is
# installed already is used: the device machine needs torch with CUDA, and compares with the peers that it has.
gpu: $(VENV)/.test
	$(BIN)/python tests/gpu/run.py $(if $(PART),--part $(PART)) $(if $(BACKEND),--backend '$(BACKEND)')

# Hours; SHORT=1: minutes; CASE="NAME ...": these cases; PLUGIN=FILE.py:CLASS: with a closure of yours. It can be
# interrupted and goes on when it is run again. studies/results.py --help says more.
results: $(VENV)/.demo
	$(BIN)/python studies/results.py $(if $(filter-out 0,$(SHORT)),--short) \
		$(foreach name,$(CASE),--case '$(name)') $(if $(PLUGIN),--closure '$(PLUGIN)')

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

dist: $(VENV)/.dist
	rm -rf dist
	$(BIN)/python -m build

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist site *.egg-info runs

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python $(SOURCES)
	$(INSTALL) '.[fast]'
	touch $@

$(VENV)/.test: $(BIN)/python $(SOURCES)
	$(INSTALL) '.[fast,test]'
	touch $@

$(VENV)/.bench: $(BIN)/python $(SOURCES)
	$(INSTALL) '.[fast,bench]'
	if command -v gfortran >/dev/null; then $(INSTALL) clawpack; fi
	touch $@

# The API pages are made from the installed package.
$(VENV)/.docs: $(BIN)/python $(SOURCES)
	$(INSTALL) '.[docs]'
	touch $@

$(VENV)/.dist: $(BIN)/python
	$(INSTALL) build
	touch $@
