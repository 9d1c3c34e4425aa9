SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export PATH := $(CURDIR)/.tools/bin:$(PATH)

IMAGES := postgres kafka
PIPELINE_IMAGES := $(IMAGES) minio iceberg-rest spark
TEST_IMAGES := $(IMAGES) mysql mariadb maxwell spark minio iceberg-rest registry
# What tests and lints look at beyond a plain build.
FEATURES := changeproof-cli/iceberg,changeproof-cli/delta
BASH_FILES := images/build images/base .ci/run $(wildcard scripts/* images/*/*.sh images/*/bin/*.sh)
LAKEHOUSE_BENCHES := --package changeproof-benches-iceberg --package changeproof-benches-delta
# What looks at the code, and what it is told besides.
CLIPPY ?= cargo clippy
DENY ?= -- --deny warnings
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
TIER ?=
METHOD ?=
PART ?=
PROFILE ?=
SOURCE ?= postgres

.PHONY: help
help: ## Lists the targets
	@awk -F':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##@ Use

.PHONY: demo
demo: ## Runs fixtures/demo.sql on PostgreSQL and shows what each capture method made of it
	@scripts/setup $(IMAGES) -- cargo build --package changeproof-cli
	@cargo run --quiet --package changeproof-cli -- try fixtures/demo.sql --on postgres

.PHONY: demo-mysql
demo-mysql: ## Runs fixtures/demo-mysql.sql on MySQL and shows what each capture method made of it
	@scripts/setup mysql kafka -- cargo build --package changeproof-cli
	@cargo run --quiet --package changeproof-cli -- try fixtures/demo-mysql.sql --on mysql

.PHONY: demo-lakehouse
demo-lakehouse: ## Runs fixtures/demo-lakehouse.sql on tables of Iceberg and Delta Lake; needs no Docker, but compiles for long at first
	@cargo run --quiet --package changeproof-cli --features iceberg,delta -- try fixtures/demo-lakehouse.sql --on iceberg --on delta

.PHONY: demo-pipeline
demo-pipeline: ## Runs fixtures/demo-pipeline.sql on PostgreSQL, and shows what three pipelines to Iceberg make of it
	@scripts/setup $(PIPELINE_IMAGES) -- cargo build --package changeproof-cli --features iceberg
	@cargo run --quiet --package changeproof-cli --features iceberg -- pipelines fixtures/demo-pipeline.sql

.PHONY: demo-cluster
demo-cluster: ## Runs Spark's pipeline on a cluster of a master and two workers amid writes, and compares the tables; takes three minutes and 8 GiB
	@scripts/setup $(PIPELINE_IMAGES) -- cargo build --package changeproof-cli --features iceberg
	@scripts/spark-cluster

.PHONY: sweep
sweep: ## Removes containers and networks that a crashed run has left behind
	@cargo run --quiet --package changeproof-cli -- sweep

.PHONY: bench
bench: ## Measures methods of PostgreSQL, or SOURCE=mysql or mariadb; METHOD=logical one of them, PART=lag, drain or price one part, TIER=1k, 10k or 100k one tier
	@scripts/setup $(SOURCE) kafka $(if $(filter mariadb,$(SOURCE)),maxwell) -- cargo bench --package changeproof-benches --no-run
	@cargo bench --package changeproof-benches --bench $(SOURCE) -- $(PART) $(TIER) $(METHOD)

.PHONY: bench-lakehouse
bench-lakehouse: ## Measures scans of Iceberg and feeds of Delta Lake, their tails, and Spark and PyIceberg beside them
	@scripts/setup spark -- cargo bench $(LAKEHOUSE_BENCHES) --no-run
	@CHANGEPROOF_BENCH_SPARK=1 cargo bench $(LAKEHOUSE_BENCHES)

.PHONY: bench-pipelines
bench-pipelines: ## Measures how soon rows can be queried by each pipeline to Iceberg; METHOD=direct one of them, TIER=1k one tier, PART=lag or throughput, PROFILE=low_latency
	@scripts/setup $(PIPELINE_IMAGES) -- cargo bench --package changeproof-benches-pipelines --no-run
	@cargo bench --package changeproof-benches-pipelines -- $(PART) $(TIER) $(METHOD) $(PROFILE)

##@ Develop

.PHONY: test
test: ## Runs all tests
	@scripts/tools nextest
	@scripts/setup $(TEST_IMAGES) -- cargo nextest run --features $(FEATURES) --no-run
	@cargo nextest run --features $(FEATURES)
	@cargo test --quiet --locked --manifest-path examples/foreign-connector/Cargo.toml --target-dir $(TARGET_DIR) -- --test-threads=6

.PHONY: test-deep
test-deep: engine ## Tries random scripts and values by every method, CASES of them (100 by default), from another seed each time
	@scripts/tools nextest
	@CHANGEPROOF_SEED=$${CHANGEPROOF_SEED:-$$RANDOM$$RANDOM} CHANGEPROOF_CASES=$${CASES:-100} \
		cargo nextest run --profile deep --package scenarios-postgres --package scenarios-mysql --test random --test random_mariadb

.PHONY: test-versions
test-versions: engine ## Runs all scenarios on other majors of PostgreSQL, MAJORS of them (15 and 18); INSTA_UPDATE=always accepts their pages
	@scripts/tools nextest
	@for major in $${MAJORS:-15 18}; do \
		images/build "postgres@$$major" && echo "==== PostgreSQL $$major" && \
		CHANGEPROOF_POSTGRES_IMAGE="$$(images/build --tag "postgres@$$major")" CHANGEPROOF_PAGES="$$major" \
		CHANGEPROOF_STATE_DIR="$${TMPDIR:-/tmp}/changeproof-$$(id -u)-postgres-$$major" \
			cargo nextest run --package scenarios-postgres --test catalogue -E 'test(/::/) - test(/^(matrix|snapshots)::/)' || exit; \
	done

.PHONY: fmt
fmt: ## Formats Rust and TOML files
	@scripts/tools lint
	@cargo fmt
	@taplo fmt --colors never

.PHONY: lint-text
lint-text: ## The part of lint that compiles nothing
	@scripts/tools lint
	cargo fmt --check
	taplo fmt --check
	typos
	shellcheck $(BASH_FILES)
	hadolint $(wildcard images/*/Dockerfile)
	actionlint
	cargo deny --log-level error check bans licenses sources
	@scripts/advisories
	cargo fmt --check --manifest-path examples/foreign-connector/Cargo.toml

.PHONY: lint
lint: lint-text ## Checks format, lints, licences, spelling, shell scripts, Dockerfiles, workflows
	$(CLIPPY) --workspace --all-targets --features $(FEATURES) $(DENY)
	$(CLIPPY) --locked --manifest-path examples/foreign-connector/Cargo.toml --target-dir $(TARGET_DIR) --all-targets $(DENY)

.PHONY: accept
accept: engine ## Runs the scenarios, takes their pages as the right ones, and shows what changed: look before you commit
	@scripts/tools nextest
	@INSTA_UPDATE=always cargo nextest run --package 'scenarios-*' --test catalogue --test mariadb
	@find snapshots -name '*.snap.new' -delete
	@INSTA_UPDATE=always cargo nextest run --package 'scenarios-*' --test catalogue --test mariadb -E 'test(/^matrix::/)'
	@git --no-pager diff --stat -- snapshots README.md

##@ Set-up (the targets above do what they need of it by themselves)

.PHONY: engine
engine: ## Finds, installs or starts a Docker engine
	@scripts/engine

.PHONY: images
images: engine ## Builds the images that are missing
	@images/build

.PHONY: clean
clean: ## Removes what was built in this folder, and images of older inputs
	@if docker version > /dev/null 2>&1; then images/build --prune; fi
	rm -rf .tools images/*/certs
	cargo clean
