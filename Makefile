# Two commands matter to a newcomer: `make run` and `make test`. Both set up .venv by themselves.
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help run test lint types unit coverage seeds test-long test-mutants mutation test-faults bench clean
help: ## what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(READY): pyproject.toml clients/python/pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Readback needs Python 3.11 or newer on PATH (looked for python3, python3.11 to python3.13)." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "setting up .venv (once; a minute or so)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -c constraints.txt -e clients/python -e '.[dev]'
	@touch $(READY)

run: $(READY) ## start the gateway on its embedded Postgres; Ctrl-C drains and stops it
	@exec $(BIN)/readback dev

lint: $(READY) ## style, types and the import contract
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

unit: $(READY) ## the tests alone
	$(BIN)/python -m pytest

coverage: $(READY) ## each module of core under its own tests alone: lines and branches, 100 % or it fails
	$(BIN)/python -m tests.measure.coverage

seeds: $(READY) ## whole clusters under simulated faults: 2,000 small seeds, 40 large, a crash at every checkpoint
	$(BIN)/readback sim --seeds 0-1999 --all-paths --shrink
	$(BIN)/readback sim --seeds 0-39 --size large --shrink
	$(BIN)/readback sim --seeds 0-1 --size short --every-crash

test-long: $(READY) ## a hundred thousand small seeds (two to three hours on two cores), new examples, and every error that can be planted
	$(BIN)/readback sim --seeds 0-99999 --all-paths --shrink
	$(BIN)/readback sim --seeds 0-999 --size large --shrink
	$(BIN)/python -m pytest --hypothesis-profile=explore $$(grep -rl "@given" tests/unit)
	$(BIN)/readback sim --bites

test-mutants: $(READY) ## each planted error is found within 2,000 seeds (some minutes)
	$(BIN)/readback sim --bites

test: lint coverage unit seeds ## everything that CI checks

SEEDS ?= 1-10
test-faults: $(READY) ## ten runs of random real faults (six minutes); SEEDS=3,7 for others
	$(BIN)/python -m tests.faults.chaos --seeds "$${READBACK_FAULT_SEEDS:-$(SEEDS)}" $(if $(SUMMARY),--summary "$(SUMMARY)")

mutation: $(READY) ## plant errors in the hub, the frames and the resume, and count those that no test finds (half an hour)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -c constraints.txt -e '.[mutation]'
	nice -n 10 $(BIN)/python -m tests.measure.mutation --write

bench: $(READY) ## every benchmark against every installed peer; writes docs/benchmarks.md
	$(BIN)/readback bench all

ETA ?= ../shared/data/eta
eta: $(READY) ## arrival times of the taxi trips in ETA=../shared/data/eta: replayed, scored, drawn into docs/img (a minute)
	@test -f $(ETA)/taxi.jsonl || { echo "there is no $(ETA)/taxi.jsonl: make eta ETA=FOLDER says where the trips are" >&2; exit 1; }
	@mkdir -p build/eta
	$(BIN)/readback eta replay --history $(ETA)/taxi.jsonl --trips $(ETA)/taxi.jsonl --out build/eta/predictions.jsonl
	$(BIN)/readback eta score --trips $(ETA)/taxi.jsonl --predictions build/eta/predictions.jsonl \
		--alerts build/eta/alerts.jsonl --calls build/eta/calls.jsonl --plots build/eta/pictures
	for name in buckets interval jitter; do cp build/eta/pictures/$$name.png docs/img/eta-$$name.png; done

clean: ## remove the environment and caches; your data folder stays
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis build *.egg-info clients/python/*.egg-info
