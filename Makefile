# What one does with this project. `make help` lists it.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# make run DB=path/to/your.db: a copy of that file is served instead of the example data.
# make run ONCE=1: stops after the check, with exit status 0 or 1.
export DB ONCE

# make soak MINUTES=10: for how long.
MINUTES := 60

LIBRARIES := libsqlite3-dev liblz4-dev pkg-config
FAULT_SUITES := Backup|BitFlip|Chain|Checkpoint|ClockTests|DamagedFile|Descriptor|DiskFault|Divergence|Everything|ForeignFile|FullDisk|Kill|LinkFault|ManyReplicas|Outage|Repair|ShortWrite|Sidecar|SlowReplica
SWIFT_SOURCES := Package.swift Sources Tests Benchmarks/Package.swift Benchmarks/Sources

.PHONY: help setup build run test big-test faults soak check fmt bench clean

help: ## list these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 18

setup: ## install the system packages and fetch the Swift packages
	@Scripts/install-packages.sh $(LIBRARIES) iso-codes
	swift package resolve

build: ## build edge-sql in release mode
	@Scripts/install-packages.sh $(LIBRARIES)
	swift build -c release --product edge-sql

run: ## a primary and two replicas with real data, until Ctrl-C (DB=file, ONCE=1)
	@Scripts/install-packages.sh $(LIBRARIES) $(if $(DB),,iso-codes)
	swift build -c release --product edge-sql
	Scripts/run.sh .build/release/edge-sql

test: ## build and run every test that CI runs (FILTER=regex for some of them)
	@Scripts/install-packages.sh $(LIBRARIES)
	@Scripts/test.sh $(if $(FILTER),--filter '$(FILTER)')

big-test: export EDGE_SQL_BIG = 1
big-test: export EDGE_SQL_FAULTS = 1
big-test: ## the same and the large ones: gigabytes of disk, and time
	@Scripts/install-packages.sh $(LIBRARIES)
	@Scripts/test.sh $(if $(FILTER),--filter '$(FILTER)')

faults: export EDGE_SQL_FAULTS = 1
faults: ## the tests of the fault matrix, the long ones too
	@Scripts/install-packages.sh $(LIBRARIES)
	@Scripts/test.sh --filter '$(FAULT_SUITES)'

soak: export EDGE_SQL_SOAK_MINUTES = $(MINUTES)
soak: ## mixed load and faults for long, a line each minute (MINUTES=60)
	@Scripts/install-packages.sh $(LIBRARIES)
	@Scripts/test.sh --filter 'SoakTests'

check: ## format, layers and house rules
	@Scripts/install-packages.sh $(LIBRARIES)
	swift format lint --strict --parallel --recursive $(wildcard $(SWIFT_SOURCES))
	@Scripts/test.sh --filter '^TidyTests\.'

fmt: ## format all sources in place
	swift format --in-place --parallel --recursive $(wildcard $(SWIFT_SOURCES))

bench: ## a short measurement of lag, reads and writes
	@Scripts/install-packages.sh $(LIBRARIES)
	swift build -c release --product edge-sql
	Scripts/bench.sh .build/release/edge-sql

clean: ## remove everything that was built, and the files of `make run`
	swift package clean
	rm -rf run
