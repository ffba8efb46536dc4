# Each target does all of its own set-up: uv (in a venv of its own where it is not on the PATH), then
# the environment from uv.lock. Needs git, make and Python >= 3.11 with venv and pip.
UV := $(shell command -v uv || echo .uv/bin/uv)
# The slow tests run in CI; `make test MARKS="not nightly"` runs them here.
MARKS ?= $(if $(CI),not nightly,not slow and not nightly)
ARGS ?=
# More than its two cores in CI: what starts runs or jobs waits more than it computes.
WORKERS ?= $(if $(CI),3,2)
SPREAD := -n $(WORKERS) --dist loadscope --no-loadscope-reorder
# Where Python may not write bytecode, every process would compile torch and Lightning anew.
COMPILE := $(if $(PYTHONDONTWRITEBYTECODE),--compile-bytecode)

.PHONY: help setup reproduce test test-nightly test-oldest mutants lint docs

help:
	@echo "make reproduce   run the quick tables and print them beside the reported numbers (ARGS=--full: all seeds)"
	@echo "make test        run the tests (MARKS='not nightly' for the slow ones too, ARGS='-k name' to choose)"
	@echo "make test-nightly   the long fuzz and the long chaos: before a change to launching, before a release"
	@echo "make test-oldest    the same with the lowest versions that pyproject.toml allows"
	@echo "make mutants     apply small deliberate faults; a named test has to catch each"
	@echo "make lint        ruff and pyright"
	@echo "make docs        build docs/ and the reference as pages in docs/_build/html; every warning is an error"

setup: $(if $(findstring .uv/,$(UV)),.uv/bin/uv)
	@$(UV) sync --quiet --locked --all-extras --group docs $(COMPILE)

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/pip install --quiet uv

# What only tests and dashboards need is left out, and left alone where it is there.
reproduce: $(if $(findstring .uv/,$(UV)),.uv/bin/uv)
	@$(UV) sync --quiet --locked --inexact --no-dev --all-extras --no-extra dashboard $(COMPILE)
	@$(UV) run --no-sync retable reproduce $(ARGS)

test: setup
	$(UV) run --no-sync pytest $(SPREAD) $(if $(MARKS),-m "$(MARKS)") $(ARGS)

test-nightly: setup
	$(UV) run --no-sync pytest $(SPREAD) -m nightly $(ARGS)

# What pyproject.toml names, each in the lowest version that it allows, in an environment of its own.
test-oldest: $(if $(findstring .uv/,$(UV)),.uv/bin/uv)
	@$(UV) venv --quiet --allow-existing --python 3.11 .venv-oldest
	@$(UV) pip install --quiet --python .venv-oldest --resolution lowest-direct \
		--editable . --all-extras -r pyproject.toml --group dev \
		'pyarrow<23' # of `datasets`; newer ones refuse the NumPy of the one peer that cannot do 2.x
	RETABLE_TESTS_OLDEST=1 .venv-oldest/bin/python -m pytest $(SPREAD) $(if $(MARKS),-m "$(MARKS)") $(ARGS)

mutants: setup
	$(UV) run --no-sync python scripts/mutants.py $(ARGS)

lint: setup
	$(UV) run --no-sync ruff check
	$(UV) run --no-sync ruff format --check
	$(UV) run --no-sync pyright

docs: setup
	$(UV) run --no-sync sphinx-build --quiet --fail-on-warning -c docs -d docs/_build/doctrees . docs/_build/html
	@echo "docs/_build/html/index.html"
