# Everything this project does, by name. `make help` lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash

# make demo CONTEXT=kind-dev: an existing cluster instead of one of our own.
CONTEXT ?=
# make demo CONTEXT=… REGISTRY=registry.example/team: where to push our images for a cluster that can pull.
REGISTRY ?=
export CONTEXT REGISTRY

CARGO_TEST = cargo test --locked

.PHONY: help
help: ## Lists what can be made.
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## The main job for real: a cluster, the operator, a trail, its forwarding. CONTEXT= takes a cluster of yours.
	@examples/demo.sh up

.PHONY: demo-shell
demo-shell: ## A shell beside the demo's cluster, with kubectl set up.
	@examples/demo.sh shell

.PHONY: demo-down
demo-down: ## Removes all that `make demo` made. Built tools and images stay cached.
	@examples/demo.sh down

.PHONY: test
test: ## Every test, cluster included.
	@tests/run.sh lint unit store api node

.PHONY: test-unit test-store test-api test-node lint
lint: ## Formatting, clippy, generated files, shell scripts.
	@tests/run.sh lint
test-unit: ## Pure stages; needs nothing.
	@tests/run.sh unit
test-store: ## The log and the forwarder on a real Postgres.
	@tests/run.sh store
test-api: ## Admission, reconcile and status on a real control plane (no root).
	@tests/run.sh api
test-node: ## The README's story on a real node, with kills (root).
	@tests/run.sh node

# make fuzz TARGET=native SECONDS=60: native, ndjson, cloudevents, kubernetes or segment.
TARGET ?= native
SECONDS ?= 60
.PHONY: fuzz
fuzz: ## Tries inputs of a format: TARGET=native, ndjson, cloudevents, kubernetes or segment, for SECONDS=60.
	@tests/fuzz/fuzz.sh $(TARGET) $(SECONDS)

BENCH_INGEST = cargo build --locked --release -p audittrail-collector -p audittrail-tests --bins && target/release/bench-ingest

.PHONY: bench-ingest bench-growth
bench-ingest: ## How fast events are accepted, beside Postgres alone; writes docs/benchmarks.md. About 15 minutes.
	@$(BENCH_INGEST) --output docs/benchmarks.md
bench-growth: ## The same with up to a hundred million events stored: hours, and 100 GiB of disk. Prints only.
	@$(BENCH_INGEST) --stored 1,10,100

.PHONY: bench-csv
bench-csv: ## How fast events are exported, beside COPY; writes docs/benchmarks.md. About 5 minutes.
	@cargo build --locked --release -p audittrail-collector -p audittrail-tests --bins && target/release/bench-csv --output docs/benchmarks.md

.PHONY: bench-query
bench-query: ## How fast questions are answered, beside hand-written queries; writes docs/benchmarks.md. About 20 minutes, 25 GiB of disk.
	@cargo build --locked --release -p audittrail-collector -p audittrail-tests --bins && target/release/bench-query --output docs/benchmarks.md

.PHONY: bench-forward
bench-forward: ## How fast events are forwarded, beside a loop without promises; writes docs/benchmarks.md. About 5 minutes.
	@cargo build --locked --release -p audittrail-collector -p audittrail-tests --bins && target/release/bench-forward --output docs/benchmarks.md

.PHONY: generate
generate: ## Writes the custom resource definitions from the types.
	cargo run --locked --quiet -p audittrail-crds --bin generate

.PHONY: images
images: ## Builds our images without a Docker engine.
	@tests/cluster/images.sh build

.PHONY: deny
deny: ## Licences, duplicates and sources of the crates (needs cargo-deny).
	cargo deny check bans licenses sources
