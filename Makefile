# Everything that a person types. Each target sets up what it needs; a second call does none of it again.
# Values given here (SELECT=..., TARGET=...) reach the pipelines as environment variables, which make sees to by
# itself; no recipe pastes them.
# Do not feed make untrusted text all the same: '$(shell ...)' in a value is expanded by make itself.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv/.installed
COMPILED := .venv/.compiled
READY := $(VENV) $(COMPILED) warehouse/dbt_packages/sluice

##@ Run
full-refresh: $(READY) ## Rebuild in stages and months [SELECT= STAGE= TO= ASIDE=1 KEEP=24h RESUME=1 ACCEPT_DRIFT=1 INCREMENTAL_ONLY=1 WORKERS=2 DRY_RUN=1]
	@pipelines/full-refresh

unpublish: $(READY) ## Bring back what the latest make full-refresh ASIDE=1 replaced [DRY_RUN=1]
	@pipelines/unpublish

clean-published: $(READY) ## Drop what such a refresh replaced, once the time that it was kept for is over [DRY_RUN=1]
	@CLEAN_UP=1 pipelines/unpublish

refill: $(READY) ## Repair what a gap in a source spoiled [FROM=2026-04-17 CONSUMERS= COHORT= RECOMPUTE=1 RESUME=1 WORKERS=2 DRY_RUN=1]
	@pipelines/refill

daily-refresh: $(READY) ## Every model once, after a failure only what it left; checks, a digest, a dated log [SELECT= COMPONENTS=a,b ONLY=bars SKIP= IDS=1,52 TO= FULL_REBUILD=1 CONTINUE_ON_ERROR=0 NO_RESTART=1 WORKERS=2 VERBOSE=1 DRY_RUN=1]
	@pipelines/daily-refresh

bars: $(READY) ## The price bars alone, checked [IDS= ONLY=1d,cal_us SKIP= FULL_REBUILD=1 ON_BACKFILL=stop CONTINUE_ON_ERROR=0 VERBOSE=1 DRY_RUN=1]
	@pipelines/bars

emas: $(READY) ## The EMAs alone, checked [IDS= ONLY=multi_tf,v2 SKIP= FULL_REBUILD=1 STALENESS_HOURS=48 SKIP_STALE_CHECK=1 CONTINUE_ON_ERROR=0 VERBOSE=1 DRY_RUN=1]
	@pipelines/emas

validate: $(READY) ## Whether bars and EMAs are whole: gaps, duplicates, ranges, rows against the source [SINCE= TO=]
	@pipelines/validate

dry-run: $(READY) ## What make daily-refresh would run [SELECT= IDS=]
	@DRY_RUN=1 pipelines/daily-refresh

clean-logs: ## Remove logs and records of runs older than DAYS=30 [DRY_RUN=1]
	@pipelines/clean-logs

optimize: $(READY) ## Merge partitions with more than THRESHOLD=20 parts (ClickHouse) [DRY_RUN=1]
	@pipelines/optimize

##@ Sync
sync: $(READY) ## Fetch what is new from every source in sources/, load it, run the models that read it [SELECT=tag:transactions OVERLAP=24h DRY_RUN=1]
	@pipelines/sync

all: $(READY) ## The same from the beginning, or from START_TS to END_TS [START_TS= END_TS=]
	@FULL=1 pipelines/sync

export-exchanges: $(READY) ## From the beginning: the exchanges alone, no models
	@FULL=1 ONLY=tap-exchange STAGE=0 pipelines/sync

export-debank: $(READY) ## From the beginning: DeBank alone, no models
	@FULL=1 ONLY=tap-debank STAGE=0 pipelines/sync

export-exchanges-incremental: $(READY) ## What is new: the exchanges alone, no models
	@ONLY=tap-exchange STAGE=0 pipelines/sync

export-debank-incremental: $(READY) ## What is new: DeBank alone, no models
	@ONLY=tap-debank STAGE=0 pipelines/sync

stage: $(READY) ## The models that read what was synced, alone
	@STAGE=only pipelines/sync

parquet: $(READY) ## What was synced as Parquet files by source and month, those rewritten that changed [PARQUET_DIR=parquet TARGET=]
	@pipelines/parquet

##@ Try
demo-gap: $(READY) ## A day that a source skipped, seen and repaired, in a database of its own [TARGET=duckdb]
	@pipelines/demo-gap

demo-restart: $(READY) ## A model breaks and is mended: only it and what reads it runs again (a copy, a minute)
	@pipelines/demo-restart

sample-data: $(READY) ## The bundled warehouse's synthetic data, made or brought up to today [SAMPLE_SCALE=1]
	@pipelines/sample-data

##@ Look
doctor: $(READY) ## The set-up, checked in the order in which things fail, each line with the next command [TARGET=]
	@pipelines/look sluice-doctor

status: $(READY) ## One screen: what runs, what is left unfinished, how it went last, what is stale [WATCH=1 TARGET=]
	@pipelines/look sluice-state status $(if $(filter-out 0,$(WATCH)),--watch)

pending: $(VENV) ## Plans that were left unfinished, each with the command that goes on
	@bin/sluice-state pending

runs: $(VENV) ## The latest runs
	@bin/sluice-state runs

history: $(VENV) ## Daily runs, full builds and retries, and what the retries saved
	@bin/sluice-state history

report: $(READY) ## One HTML file to look at: coverage, runs, what is slow, checks, syncs, partitions [DAYS=30 OUTPUT=]
	@pipelines/report

##@ Servers
clickhouse: $(VENV) .venv/.clickhouse ## A real ClickHouse on loopback until Ctrl-C, its data in .state/clickhouse
	@PYTHONPATH=lib .venv/bin/python -m sluice.clickhouse_server

##@ Develop
test: $(READY) ## Everything that must hold: lint, types, pytest, bats
	@tests/run

test-faults: $(READY) ## Kills, signals, broken input, damaged files, hostile names, on three engines: many of each; an hour at most on two cores
	@tests/run-faults

coverage: $(READY) ## Each branch of planners, protocol, state, locks and guards is taken by a test; some minutes
	@tests/coverage

bench: $(READY) .venv-peers/.installed ## What is claimed about speed, measured against what a user would do instead
	@.venv/bin/python bench/batch_overhead.py
	@.venv/bin/python bench/memory.py
	@.venv/bin/python bench/guards.py
	@.venv/bin/python bench/sync.py
	@.venv/bin/python bench/state.py
	@.venv/bin/python bench/refill.py
	@.venv/bin/python bench/market.py
	@.venv/bin/python bench/report.py
	@.venv/bin/python bench/workers.py
	@.venv/bin/python bench/pipe.py
	@.venv/bin/python bench/microbatch.py
	@.venv/bin/python bench/selection.py
	@.venv/bin/python bench/growth.py

bench-quick: $(READY) ## A look at some of it in three minutes; bench/results stays as it is
	@BENCH_QUICK=1 .venv/bin/python bench/pipe.py
	@BENCH_QUICK=1 .venv/bin/python bench/microbatch.py 10
	@BENCH_QUICK=1 .venv/bin/python bench/selection.py 500
	@BENCH_QUICK=1 .venv/bin/python bench/growth.py 100:10 300:10 300:100
	@BENCH_QUICK=1 .venv/bin/python bench/guards.py

docs: $(VENV) ## Write docs/commands.md, docs/records.md and the README's table anew
	@PYTHONPATH=lib .venv/bin/python -m sluice.docs

man: $(VENV) ## Man pages of all commands, in share/man
	@PYTHONPATH=lib .venv/bin/python -m sluice.man_pages share/man

completion: $(VENV) ## Completion for bash, zsh and fish, in share/completion; says what to source
	@PYTHONPATH=lib .venv/bin/python -m sluice.completion share/completion

lint: $(VENV) ## Style and types only
	@tests/lint

setup: $(READY) ## The virtual environment, from the lock, with hashes, and the bundled project's package

lock: ## Write requirements*.txt anew from requirements*.in
	@pipelines/lock

audit: ## Known vulnerabilities of what the locks hold
	@pipelines/audit

clean: ## Remove the virtual environments (state, logs and data stay)
	@rm -rf .venv .venv-*

help: ## This text
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-29s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV): requirements.txt
	@echo "setting up .venv (once)" >&2
	@"$(PYTHON)" -m venv .venv
	@.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.txt >&2
	@touch $(VENV)

# Python keeps compiled modules by itself, unless it is told not to, as in many containers, or may not write here.
$(COMPILED): $(VENV) $(shell find bin lib -name '*.py' 2>/dev/null)
	@.venv/bin/python -m compileall -q bin lib
	@touch $@

# What `dbt deps` would do, with a link that still holds when the folder moves. Not in git: not every copy of a tree keeps links.
warehouse/dbt_packages/sluice:
	@mkdir -p $(@D)
	@ln -sfn ../../sql/dbt $@

.venv/.clickhouse: requirements-clickhouse.txt $(VENV)
	@echo "fetching ClickHouse into .venv (once)" >&2
	@.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r $< >&2
	@touch $@

# Not into .venv: what an emulator of Snowflake, a tap by others or a peer in a benchmark wants of duckdb must not bind the product.
.venv-%/.installed: requirements-%.txt
	@echo "setting up $(@D) (once)" >&2
	@"$(PYTHON)" -m venv $(@D)
	@$(@D)/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $< >&2
	@touch $@

.PHONY: all audit bars bench bench-quick clean clean-logs clean-published clickhouse completion coverage daily-refresh demo-gap demo-restart docs doctor dry-run emas export-debank export-debank-incremental export-exchanges export-exchanges-incremental full-refresh help history lint lock man optimize parquet pending refill report runs sample-data setup stage status sync test test-faults unpublish validate
