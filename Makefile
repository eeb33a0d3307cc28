# What one does with this project. `make help` lists it.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# make run DB=path/to/your.db: a copy of that file is served instead of the example data.
# make run ONCE=1: stops after the check, with exit status 0 or 1.
export DB ONCE

# make soak MINUTES=10: for how long.
MINUTES := 60

LIBRARIES := libsqlite3-dev liblz4-dev zlib1g-dev pkg-config
FAULT_SUITES := Backup|BitFlip|Chain|Checkpoint|ClockTests|DamagedFile|Descriptor|DiskFault|Divergence|Everything|ForeignFile|FullDisk|Kill|LinkFault|ManyReplicas|OldBackup|Outage|PowerLoss|RegionTests|Repair|ShortWrite|Sidecar|SlowReplica
SWIFT_SOURCES := Package.swift Sources Tests Benchmarks/Package.swift Benchmarks/Sources Fuzz/Package.swift Fuzz/Sources

.PHONY: help setup build run test big-test faults sim nth mutants soak regions power tsan asan fuzz record check fmt bench bench-full bench-short clean

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

big-test: export EDGE_SQL_TEST_MINUTES = 120
big-test: export EDGE_SQL_BIG = 1
big-test: export EDGE_SQL_FAULTS = 1
big-test: ## the same and the large ones: gigabytes of disk, and time
	@Scripts/install-packages.sh $(LIBRARIES)
	@Scripts/test.sh $(if $(FILTER),--filter '$(FILTER)')

faults: export EDGE_SQL_TEST_MINUTES = 60
faults: export EDGE_SQL_FAULTS = 1
faults: ## the tests of the fault matrix, the long ones too
	@Scripts/install-packages.sh $(LIBRARIES)
	@Scripts/test.sh --filter '$(FAULT_SUITES)'

soak: export EDGE_SQL_SOAK_MINUTES = $(MINUTES)
soak: export EDGE_SQL_TEST_MINUTES = $(shell expr $(MINUTES) + 30)
soak: ## mixed load and faults for long, a line each minute (MINUTES=60)
	@Scripts/install-packages.sh $(LIBRARIES)
	@Scripts/test.sh --filter 'SoakTests'

sim: ## simulated clusters under faults, SEEDS=10000 of them (SEED=n for one, with its story)
	@Scripts/install-packages.sh $(LIBRARIES)
	swift build -c release --product edge-sim
	.build/release/edge-sim $(if $(SEED),one $(SEED) --verbose,--seeds $(or $(SEEDS),10000))

nth: ## each disk operation of a small workload failing, one after the other
	@Scripts/install-packages.sh $(LIBRARIES)
	swift build -c release --product edge-sim
	for node in primary replica; do .build/release/edge-sim nth $$node; .build/release/edge-sim nth $$node --full; done

mutants: ## bugs planted one by one, each to be found by a simulation (NAME=one)
	@Scripts/install-packages.sh $(LIBRARIES)
	Scripts/mutants.sh $(NAME)

regions: export EDGE_SQL_FAULTS = 1
regions: ## nodes in three network namespaces: delay, loss, partitions, round trips (needs root)
	@Scripts/install-packages.sh $(LIBRARIES)
	@Scripts/test.sh --filter 'NodeTests/(Region|RoundTrip)Tests'

power: export EDGE_SQL_FAULTS = 1
power: ## losses of power on ext4, and on xfs where mkfs.xfs is there (needs root)
	@Scripts/install-packages.sh $(LIBRARIES)
	@Scripts/test.sh --filter 'NodeTests/PowerLossTests'

# The house rules read the sources, which are the same under a sanitizer.
tsan: ## the tests under ThreadSanitizer: data races (FILTER=regex)
	@Scripts/install-packages.sh $(LIBRARIES)
	@Scripts/sanitize.sh thread --skip '^TidyTests\.' $(if $(FILTER),--filter '$(FILTER)')

asan: ## the tests under AddressSanitizer: memory errors (FILTER=regex)
	@Scripts/install-packages.sh $(LIBRARIES)
	@Scripts/sanitize.sh address --skip '^TidyTests\.' $(if $(FILTER),--filter '$(FILTER)')

fuzz: ## every decoder under libFuzzer, FUZZ_SECONDS=20 or FUZZ_RUNS each (CHECK=name)
	@Scripts/install-packages.sh $(LIBRARIES)
	@Scripts/fuzz.sh $(CHECK)

record: export EDGE_SQL_RECORD = 1
record: ## make Tests/Fixtures/v1 and Fuzz/Corpus anew
	@Scripts/install-packages.sh $(LIBRARIES)
	@Scripts/test.sh --filter recordFixtures

check: ## format, layers and house rules
	@Scripts/install-packages.sh $(LIBRARIES)
	swift format lint --strict --parallel --recursive $(wildcard $(SWIFT_SOURCES))
	@Scripts/test.sh --filter '^TidyTests\.'

fmt: ## format all sources in place
	swift format --in-place --parallel --recursive $(wildcard $(SWIFT_SOURCES))

# Figures go to the terminal; BENCH="--json …" for programs, or names of some benchmarks.
bench: ## every figure beside its floor, in less than 10 minutes (BENCH=names and options)
	@Scripts/install-packages.sh $(LIBRARIES)
	swift build -c release --product edge-sql
	swift build -c release --package-path Benchmarks
	Benchmarks/.build/release/edge-sql-benchmarks $(BENCH)

bench-full: ## the same for longer, and what needs gigabytes
	@Scripts/install-packages.sh $(LIBRARIES)
	swift build -c release --product edge-sql
	swift build -c release --package-path Benchmarks
	Benchmarks/.build/release/edge-sql-benchmarks --full --seconds 15 --rounds 9 $(BENCH)

bench-short: ## lag, reads and writes of a primary and a replica that are started for it
	@Scripts/install-packages.sh $(LIBRARIES)
	swift build -c release --product edge-sql
	Scripts/bench.sh .build/release/edge-sql

clean: ## remove everything that was built, and the files of `make run`
	swift package clean
	rm -rf run
