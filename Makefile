# The developer's manual on one screen.
SHELL := /bin/sh
# The lab makes hosts, which takes root; the state stays the caller's.
STATE := $(or $(AGENTRIG_STATE),$(or $(XDG_STATE_HOME),$(HOME)/.local/state)/agentrig)
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)
ROOT  := $(shell [ "$$(id -u)" = 0 ] || echo "sudo -E env AGENTRIG_STATE='$(STATE)' XDG_CACHE_HOME='$(CACHE)' PYTHONDONTWRITEBYTECODE=1")
PYTEST := .venv/bin/python -m pytest

.PHONY: up test check unit lab molecule soak soak-check docs golden release benchmark benchmark-memory benchmark-plan clean

up: ## set up, say what this machine could carry, bring up a rehearsal rig that really serves
	@scripts/setup.sh
	-@.venv/bin/deploy plan
	@$(ROOT) .venv/bin/deploy up --lab

test: unit lab ## every ring of tests

unit: ## the rings that need no host: unit, golden, contract
	@scripts/setup.sh dev
	@$(PYTEST) -n 2 tests/unit tests/golden tests/contract

lab: ## the ring with real hosts, made on this machine
	@scripts/setup.sh dev
	@$(ROOT) $(PYTEST) -n 3 --dist loadfile -rs --durations=25 tests/lab

molecule: ## the roles over throwaway hosts, group by group: converge, idempotence, check mode, verify
	@scripts/setup.sh dev
	@PATH="$$PWD/.venv/bin:$$PATH" $(ROOT) env PATH="$$PWD/.venv/bin:$$PATH" molecule test --all

soak: ## the slow ring: whole matrices, and their evidence; MATRIX="faults ..." for some of them
	@scripts/setup.sh dev
	@.venv/bin/python -m tests.soak run $(MATRIX) --as-root "$(ROOT)"

soak-check: ## the evidence held to the checkout, counted again, and two cases run again
	@scripts/setup.sh dev
	@.venv/bin/python -m tests.soak check --as-root "$(ROOT)"

check: ## lints, types, generated documentation
	@scripts/setup.sh dev
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check -q .
	@.venv/bin/mypy
	@.venv/bin/yamllint --strict .
	@PATH="$$PWD/.venv/bin:$$PATH" ANSIBLE_HOME=.cache/ansible ansible-lint --offline -q
	@.venv/bin/python -m docs.generate --check

docs: ## write the generated documentation again
	@.venv/bin/python -m docs.generate

golden: ## write the golden trees again; read the difference before you commit it
	@.venv/bin/python -m tests.golden.renew

benchmark: ## the figures of the README, measured here beside a fixed reference
	@scripts/setup.sh dev
	@$(ROOT) .venv/bin/python benchmarks/line.py

benchmark-memory: ## the planner's ledger against measured loads: the whole table, and without the rig that repeats
	@scripts/setup.sh dev
	@.venv/bin/python benchmarks/memory.py

benchmark-plan: ## what deciding costs: a thousand machines, and half the catalog
	@scripts/setup.sh dev
	@.venv/bin/python benchmarks/plan.py

release: ## a wheel and a source archive in dist/
	@scripts/setup.sh dev
	@.venv/bin/uv build --quiet

clean: ## take the lab away, and what was built here
	-@$(ROOT) .venv/bin/deploy lab down
	-@$(ROOT) rm -rf .cache/soak
	@rm -rf .venv dist build .cache
