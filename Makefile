# The two commands that matter: `make quickstart` and `make test`. `make` alone lists the others.
# Settings: PYTHON=/path/to/python3.12 (which Python makes .venv), WORKERS=4 (processes of `make test`), ARGS="…" (more for pytest).

VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
ARGS ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Installs a Debian package where there is apt, quietly; whether it came is for the caller to see.
apt = { command -v apt-get >/dev/null || exit 0; \
  if [ "$$(id -u)" = 0 ]; then as_root=; else as_root="sudo -n"; fi; \
  { $$as_root apt-get install -y -q $(1) || { $$as_root apt-get update -q && $$as_root apt-get install -y -q $(1); }; } \
  >/dev/null 2>&1 || true; }
chromium = { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null
postgres = { command -v initdb || ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1
BENCHES := $(filter-out bench/_% bench/write_docs.py,$(wildcard bench/*.py))

.DEFAULT_GOAL := help
.PHONY: help quickstart install install-test frameworks bubblewrap chromium postgres test lint types bench-quick docs clean distclean
.DELETE_ON_ERROR:

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

quickstart: install ## install into .venv and see a small model learn to reason (about a minute)
	@$(BIN)/thinksmith quickstart

test: install-test .venv-openai-autogen/.installed bubblewrap chromium postgres ## install what tests need and run them all
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

bubblewrap: ## install bubblewrap where it is missing and apt is there (the sandbox's strongest layer)
	@command -v bwrap >/dev/null || $(call apt,bubblewrap)
	@command -v bwrap >/dev/null || echo "bubblewrap is missing (apt install bubblewrap): the sandbox falls back to Landlock" \
	  "and seccomp, and the tests of namespaces are skipped" >&2

chromium: ## install Chromium where it is missing and apt is there (pages are tested in it)
	@$(chromium) || $(call apt,chromium)
	@$(chromium) || echo "Chromium is missing (apt install chromium): the tests of pages in a browser are skipped" >&2

postgres: ## install PostgreSQL where it is missing and apt is there (tests start a server of their own)
	@$(postgres) || $(call apt,postgresql)
	@$(postgres) || echo "PostgreSQL is missing (apt install postgresql): its tests are skipped" >&2

lint: install-test ## style and likely mistakes
	@$(BIN)/ruff check src tests bench examples && $(BIN)/ruff format --check src tests bench examples

types: install-test ## mypy --strict over src
	@$(BIN)/mypy

bench-quick: install-test ## every measurement, in its short form (the figures are not kept)
	@set -e; for script in $(BENCHES); do echo "== $$script"; $(BIN)/python $$script --quick; done

docs: install-test ## write docs/benchmarks.md from bench/results
	@$(BIN)/python bench/write_docs.py

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test

# The stamps make an installation happen once, and again only when pyproject.toml changed.
$(VENV)/.installed: pyproject.toml | $(VENV)/.made
	@echo "Installing thinksmith into $(VENV) (PyTorch is large: minutes the first time)"
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/.made
	@echo "Installing thinksmith and what its tests need into $(VENV) (PyTorch is large: minutes the first time)"
	@$(PIP) install --editable '.[test]'
	@touch $@ $(VENV)/.installed

# Agent frameworks whose requirements do not agree with ours; what needs CrewAI is skipped without it: it is large.
frameworks: .venv-openai-autogen/.installed .venv-crewai/.installed ## install what some examples need, in environments of their own (1 GB)

.venv-%/.installed: examples/frameworks/requirements-%.txt | $(VENV)/.made
	@echo "Installing $* into $(@D)"
	@$(BIN)/python -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check --quiet install -r $<
	@touch $@

# The first Python that is a 3.11 or 3.12 and can make environments (Debian keeps that part in python3-venv).
$(VENV)/.made:
	@for python in $(PYTHON) python3 python3.12 python3.11; do \
	  "$$python" -c 'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null || continue; \
	  "$$python" -m venv $(VENV) && touch $@ && exit 0; \
	done; \
	echo "thinksmith needs Python 3.11 or 3.12 with venv (Debian, Ubuntu: apt install python3-venv);" \
	  "name another one with: make PYTHON=/path/to/python3.12" >&2; \
	exit 2

clean: ## remove caches and build outputs; .venv, runs and the store stay
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find src tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## the same, and .venv and those of frameworks
	@rm -rf $(VENV) .venv-openai-autogen .venv-crewai
