# make demo: set everything up and train the digits example.  make test: the whole test suite on a built wheel.
# Needs Python 3.11+, a C compiler and make; everything else is installed into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find frontend dialects compiler runtime -type f \( -name '*.py' -o -name '*.pyi' -o -name '*.[ch]' \)) CMakeLists.txt pyproject.toml
TESTS ?= tests
PYTEST_ARGS ?= -n 2

.PHONY: demo docs wheel test test-c test-lit test-py test-skipped test-plugin lint types format clean

demo: $(VENV)/.examples
	$(BIN)/python examples/digits.py --out out

test: test-lit test-py

# The C tests by themselves; test-py runs them, too.
test-c: $(VENV)/.test
	PATH="$(abspath $(BIN)):$$PATH" bash tests/c/run.sh

test-lit: $(VENV)/.test
	$(BIN)/lit -sv lit_tests

test-py: $(VENV)/.test
	$(BIN)/python -m pytest $(PYTEST_ARGS) $(TESTS)

# What was skipped when it last ran, with more installed: REQUIRE names what must be there now.
REQUIRE ?=
test-skipped: $(VENV)/.test
	$(BIN)/python -m pytest $(PYTEST_ARGS) --skipped-before --require "$(REQUIRE)" $(TESTS)

# The example plug-in, installed from its own folder into a fresh environment on top of the one with the wheel.
PLUGIN_ENV := build/plugin-env
PURELIB := "import sysconfig; print(sysconfig.get_path('purelib'))"
test-plugin: $(VENV)/.test
	rm -rf $(PLUGIN_ENV)
	$(BIN)/python -m venv $(PLUGIN_ENV)
	echo "import site; site.addsitedir('$$($(BIN)/python -c $(PURELIB))')" > $$($(PLUGIN_ENV)/bin/python -c $(PURELIB))/base.pth
	$(PLUGIN_ENV)/bin/pip install -q --no-deps ./examples/plugin
	FLAMBEAU_COMPILE=blocking $(PLUGIN_ENV)/bin/python -m pytest -q examples/plugin/tests
	PATH="$(abspath $(PLUGIN_ENV))/bin:$(abspath $(BIN)):$$PATH" \
		$(PLUGIN_ENV)/bin/python -c "from lit.main import main; main()" -sv examples/plugin/tests

# Wheels for users, who need no compiler then: one for each of these Pythons.
WHEEL_PYTHONS ?= $(PYTHON)
wheel:
	bash tools/wheels.sh $(WHEEL_PYTHONS)

# The site: guides, and a reference made from docstrings; every link in it is followed.
docs: $(VENV)/.docs
	rm -rf build/site
	$(BIN)/python tools/docs_site.py build/site

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $$(find runtime tests/c -name '*.[ch]')

types: $(VENV)/.lint $(VENV)/.wheel
	$(BIN)/mypy -p flambeau

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(find runtime tests/c -name '*.[ch]')

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.wheel: $(BIN)/python $(SOURCES)
	rm -rf dist
	$(BIN)/pip wheel -q --no-deps -w dist .
	$(BIN)/pip install -q --force-reinstall --no-deps dist/flambeau-*.whl
	$(BIN)/pip install -q flambeau --find-links dist
	touch $@

$(VENV)/.examples: $(VENV)/.wheel
	$(BIN)/pip install -q "flambeau[examples]" --find-links dist
	touch $@

$(VENV)/.test: $(VENV)/.wheel
	$(BIN)/pip install -q "flambeau[test]" --find-links dist
	touch $@

$(VENV)/.docs: $(VENV)/.wheel
	$(BIN)/pip install -q "flambeau[docs]" --find-links dist
	touch $@

$(VENV)/.lint: $(BIN)/python pyproject.toml
	$(BIN)/pip install -q ruff==0.17.5 mypy==2.4.1 clang-format==23.1.5
	touch $@

clean:
	rm -rf build dist $(VENV) out
