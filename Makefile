# What one does with this checkout. `make` alone lists it.
# The lab makes namespaces and mounts, so its targets run as root: directly, or through sudo.

PYTHON ?= python3
SERVERS ?= 3
CLIENTS ?= 0
HOST ?= s1
SUDO ?= $(shell [ "$$(id -u)" -eq 0 ] || echo sudo)

VENV := .venv/bin
LAB_SETTINGS := LAB_CACHE LAB_MIRROR LAB_MIRROR_OLD LAB_CONSUL LAB_LOG_STORE
# sudo drops the environment; the lab's own settings must pass. Root leaves no bytecode in a user's checkout.
AS_ROOT := $(SUDO) env $(foreach name,$(LAB_SETTINGS),$(if $($(name)),$(name)="$($(name))")) PYTHONDONTWRITEBYTECODE=1

.DEFAULT_GOAL := help
.PHONY: help setup check test test-consul planted soak bench demo demo-staged play lab-root lab-up lab-down lab-shell lab-break lab-status

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/debian.stamp .venv/synced.stamp ## install what is missing: a few Debian packages, then .venv (safe to repeat)

# Debian's packages come first: without python3-venv there is no venv to keep a stamp in.
.venv/debian.stamp: lab/setup.sh
	@./lab/setup.sh
	@mkdir -p .venv && touch $@

.venv/synced.stamp: .venv/debian.stamp pyproject.toml uv.lock
	$(PYTHON) -m venv .venv
	$(VENV)/pip install --quiet --disable-pip-version-check uv
	$(VENV)/uv sync --frozen --inexact --quiet
	@touch $@

check: setup ## formatting, lint, types, and the architecture's import contracts
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/lint-imports

# Two labs side by side: the tests on real hosts mostly wait, for elections and for those that are gone.
test: lab-root ## all tests, those on real hosts with real Consul too (root)
	@$(AS_ROOT) $(VENV)/pytest -m "not soak" -n 2 --dist loadgroup

# Other programs are on the vendor's releases page; without CONSUL this runs the lab's stand-in of 0.6.4.
test-consul: lab-root ## the tests on real hosts that fit another Consul, old or new; CONSUL=/path/to/consul (root)
	@$(AS_ROOT) $(if $(CONSUL),LAB_CONSUL="$(abspath $(CONSUL))") \
		$(VENV)/pytest tests/integration -m "$(if $(CONSUL),lab,old_consul) and not soak"

planted: setup ## plant known bugs in a copy, one after the other, and see that the tests catch each
	@$(VENV)/python -m tests.planted

soak: lab-root ## the long repetitions (root)
	@$(AS_ROOT) $(VENV)/pytest -m soak --timeout=0

bench: lab-root ## the benchmarks (root)
	@$(AS_ROOT) $(VENV)/python -m bench

demo: lab-root ## watch a cluster lose its leader and the bot bring it back, from the local Slack (root)
	@$(AS_ROOT) $(VENV)/python -m lab.demo

demo-staged: lab-root ## the same for Consul below 0.7: peers emptied by a restart, the staged bootstrap (root)
	@$(AS_ROOT) $(if $(CONSUL),LAB_CONSUL="$(abspath $(CONSUL))") $(VENV)/python -m lab.demo --staged

play: lab-root ## the demo's broken cluster, and the buttons are yours: a page for your browser (root)
	@$(AS_ROOT) $(VENV)/python -m lab.demo --play

lab-root: setup ## build the Debian tree that all lab hosts share: a minute, once (root)
	@$(AS_ROOT) $(VENV)/python -m lab root >/dev/null

lab-up: lab-root ## boot a cluster to play with; SERVERS=3 CLIENTS=0 ACL= (root)
	@$(AS_ROOT) $(VENV)/python -m lab up --servers $(SERVERS) --clients $(CLIENTS) $(if $(ACL),--acl)

lab-status: setup ## show the labs, their hosts, and who leads (root)
	@$(AS_ROOT) $(VENV)/python -m lab status

lab-break: setup ## break the cluster; WAY=replace-majority, or no WAY for the list (root)
	@$(AS_ROOT) $(VENV)/python -m lab break $(or $(WAY),--help)

lab-shell: setup ## log in to a lab host; HOST=s1 (root)
	@$(AS_ROOT) $(VENV)/python -m lab shell $(HOST)

lab-down: setup ## take every lab away, and what is left of dead ones (root)
	@$(AS_ROOT) $(VENV)/python -m lab down --all
