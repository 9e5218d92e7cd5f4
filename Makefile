# `make quickstart` and `make test` need nothing but Python 3.10 to 3.13 and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
N ?= 10000
SEED ?= 1

.PHONY: help venv quickstart test fuzz package lint format docs

help:  ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(VENV)/.installed  ## create .venv and install the project with its tools (again only when setup.cfg changes)

$(VENV)/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 10) <= sys.version_info[:2] <= (3, 13) else \
	"error: expected Python 3.10 to 3.13, got " + sys.version.split()[0] + "; try make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

quickstart: venv  ## draw poses on a video of real people; train and test a small model (6 to 10 minutes on 2 cores)
	$(BIN)/python tools/demo_video.py --input data/samples/people.mp4 --output runs/quickstart/people.mp4 \
		--detector pose --smooth
	$(BIN)/python tools/train.py --cfg configs/quickstart.yaml
	$(BIN)/python tools/test.py --cfg configs/quickstart.yaml --weights runs/quickstart \
		--picture runs/quickstart/predictions.jpg
	@echo "packaged model on real people:   runs/quickstart/people.mp4"
	@echo "trained model on synthetic ones: runs/quickstart/predictions.jpg (its AP is in the table above)"
	@echo "next, a video of your own:       $(BIN)/python tools/demo_video.py --input VIDEO --output poses.mp4"

# One thread per process: more threads than cores slow small models down many times.
test: venv  ## run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

# An input that fails is kept in runs/fuzz/seedSEED/, one of each class of faults.
fuzz: venv  ## try N damaged inputs of every kind: make fuzz N=10000 SEED=1 (10 minutes on 2 cores)
	$(BIN)/python tests/robustness/fuzz.py --count $(N) --seed $(SEED) --workers $(WORKERS) --keep runs/fuzz

package:  ## build the sdist and the wheel, install the wheel into an empty environment and try it (2 to 5 minutes)
	@PYTHON="$(PYTHON)" .ci/package

lint: venv  ## check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: venv  ## format the code and apply ruff's fixes
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: venv  ## build the documentation into site/; a broken link is an error
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --site-dir site
