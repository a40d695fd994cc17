# `make demo` and `make test` need a Python of at least 3.11 and the network,
# once, to install. PYTHON=... chooses another interpreter, VENV=... a folder.

VENV ?= .venv
OUT ?= runs/demo
PYTHON ?= $(shell for p in python3 python3.12 python3.13 python3.11 python3.14; do \
  if $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
  >/dev/null 2>&1; then echo $$p; break; fi; done)
RUN = $(VENV)/bin/python
# glibc then asks Linux for huge pages: on the CPU a training step spends about
# a fifth of its time on first touches of small ones. No effect elsewhere.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: demo test test-all selftest lint format docs install wheel clean

# One of the 144 held-out digits counts 0.7 points, more than the usual tolerance.
demo: install
	$(VENV)/bin/natjax transform resnet20 --method replace --dataset digits \
	  --preset demo --tolerance 1 --out $(OUT)
	@echo "The picture: $(OUT)/architecture.svg"

# In two processes, one per core; long files start first. What takes long, and is
# not marked so, is named at the end. SELECT="not slow" adds what is marked: CI.
TEST = $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
  --durations 8 --durations-min 5
SELECT ?= not slow and not long

test: install
	$(TEST) -m "$(SELECT)"

test-all: install
	$(TEST)

# What this machine computes, compared with references: no network, nothing
# written but into runs. A busy machine takes long, and that is no fault.
selftest: install
	NATJAX_CACHE=runs/selftest/cache $(VENV)/bin/natjax selftest --quick \
	  --only checks --time-limit 1800 --out runs/selftest

CODE = natjax tests experiments docs setup.py

lint: install
	$(RUN) -m ruff check .
	$(RUN) -m autopep8 --diff --exit-code $(CODE)
	$(VENV)/bin/lint-imports
	$(RUN) -m mypy natjax

format: install
	$(RUN) -m ruff check --fix .
	$(RUN) -m autopep8 --in-place $(CODE)

# A site of README, docs and the reference: build/docs/index.html.
docs: $(VENV)/installed-docs
	$(RUN) -m sphinx -q -W -E -b html -c docs . build/docs
	cp build/docs/README.html build/docs/index.html

$(VENV)/installed-docs: $(VENV)/installed
	$(RUN) -m pip install --quiet --disable-pip-version-check -e ".[docs]"
	touch $@

install: $(VENV)/installed

$(VENV)/installed: setup.py pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
	  echo "natjax needs Python 3.11 or newer with venv, and found none;" \
	    "install one or name it: make PYTHON=/path/to/python3.12" >&2; \
	  exit 1; fi
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

# A wheel, in an environment of its own, outside of this folder.
wheel:
	rm -rf dist $(VENV)-wheel
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(PYTHON) -m venv $(VENV)-wheel
	$(VENV)-wheel/bin/python -m pip install --quiet dist/natjax-*.whl
	cd dist && ../$(VENV)-wheel/bin/natjax cost darts

clean:
	rm -rf build/docs $(VENV) $(VENV)-wheel
