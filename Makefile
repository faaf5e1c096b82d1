# What can be done here. Everything is installed into .venv, nothing outside this directory.

VENV   := .venv
PYTHON  = $(VENV)/bin/python
PIP     = PIP_ROOT_USER_ACTION=ignore $(PYTHON) -m pip --quiet --disable-pip-version-check
ARGS   ?=

# What the engine is compiled from (setup.py), and the stamp that says that it is.
DECLARED := $(wildcard proxy/*.pxd proxy/*/*.pxd)
ENGINE   := $(DECLARED) $(wildcard $(DECLARED:.pxd=.py) proxy/*.pyx proxy/*/*.pyx) setup.py pyproject.toml
COMPILED := $(VENV)/.compiled

.DEFAULT_GOAL := help
.PHONY: help run test drill check bench compile sanitize clean
.NOTPARALLEL:
# They are for setup.py. The proxy takes every other SLOTGATE_ variable for a setting of its own.
unexport SLOTGATE_BUILD SLOTGATE_CFLAGS
# Containers often set it. Without bytecode on disk each start of a proxy compiles its sources anew, which takes more CPU
# than the rest of the start: minutes in a run of the tests.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@echo 'Slotgate. Targets (ARGS="..." is passed on):'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

run: $(VENV)/.installed-demo $(COMPILED) ## start real servers and the proxy on 127.0.0.1:6380; ARGS="--listen 127.0.0.1:7000 --shards 5"
	@exec $(PYTHON) -m proxy demo $(ARGS)

test: $(VENV)/.installed-dev $(COMPILED) ## run all tests; ARGS="-k scan -x"
	@exec $(PYTHON) -m pytest $(ARGS)

drill: $(VENV)/.installed-dev $(COMPILED) ## fail over, reshard, kill and hang real servers under load; ARGS="-k cluster -x"
	@exec $(PYTHON) -m pytest tests/drills tests/live -m drill $(ARGS)

check: $(VENV)/.installed-dev ## lint, formatting and types
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

bench: $(VENV)/.installed-bench $(COMPILED) ## measure the proxy beside others, write benchmarks/RESULTS.md; ARGS="--help"
	@exec $(PYTHON) -m benchmarks --write $(ARGS)

compile: $(COMPILED) ## compile the engine in place, if it changed; the targets above do so too

sanitize: $(VENV)/.installed-dev ## run the engine's tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@exec tests/sanitize.sh $(ARGS)

clean: ## remove .venv, caches and what was built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find proxy -name '*.so' -exec rm -f {} +
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# All modules of the engine or none. Without a C compiler setup.py says so, the plain engine runs, and the next make tries
# again. SLOTGATE_BUILD=require fails instead.
$(COMPILED): $(ENGINE) $(VENV)/.installed-demo
	@echo 'Compiling the engine (once, and when it changed) ...'
	@rm -f $@
	@SLOTGATE_BUILD='$(or $(SLOTGATE_BUILD),auto)' SLOTGATE_CFLAGS='$(SLOTGATE_CFLAGS)' \
	    $(PYTHON) setup.py --quiet build_ext --inplace
	@if env -u SLOTGATE_ENGINE $(PYTHON) -m proxy --version | grep -q 'engine: compiled'; then touch $@; fi

# The stamps say what is installed; they are older than pyproject.toml when it has to be done again.
# pip does not compile: it would build in a folder of its own, from the beginning each time.
# --prefer-binary: a wheel that is a little older rather than a source that needs a compiler.
$(VENV)/.installed-demo: pyproject.toml | $(PYTHON)
	@echo 'Installing into $(VENV) (once) ...'
	@SLOTGATE_BUILD=skip $(PIP) install --prefer-binary --editable '.[compile,demo]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(PYTHON)
	@echo 'Installing into $(VENV) (once) ...'
	@SLOTGATE_BUILD=skip $(PIP) install --prefer-binary --editable '.[compile,dev,demo]'
	@touch $@ $(VENV)/.installed-demo

$(VENV)/.installed-bench: pyproject.toml | $(PYTHON)
	@echo 'Installing into $(VENV) (once) ...'
	@SLOTGATE_BUILD=skip $(PIP) install --prefer-binary --editable '.[compile,bench,demo]'
	@touch $@ $(VENV)/.installed-demo

$(PYTHON):
	@for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo 'make: Python 3.11 or newer is needed, and is not on PATH as python3 or python3.11 to python3.14.' >&2; exit 1; \
	fi; \
	if ! $$found -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "make: $$found has no venv module (Debian, Ubuntu: apt-get install python3-venv)." >&2; exit 1; \
	fi; \
	$$found -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }
