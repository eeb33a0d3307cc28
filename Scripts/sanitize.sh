#!/usr/bin/env bash
# Runs the tests with the whole of edge-sql under a sanitizer, the program that the process tests start too.
#
# usage: Scripts/sanitize.sh thread|address [ARGUMENT OF swift test]…
#
# Each process writes what the sanitizer finds into .build-tsan/reports or .build-asan/reports; one report is a failure,
# whatever the tests say. Tests wait ten times as long as usual before they give up. Of the simulations, which have one
# thread, a tenth runs.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=$1
shift
case $kind in
thread) scratch=.build-tsan ;;
address) scratch=.build-asan ;;
*) echo "usage: Scripts/sanitize.sh thread|address" >&2 && exit 64 ;;
esac
reports=$PWD/$scratch/reports
rm -rf "$reports"
mkdir -p "$reports"
export EDGE_SQL_SCRATCH=$scratch EDGE_SQL_BUILD="--sanitize=$kind"
if [ "$kind" = thread ]; then
  # A Mutex that the sanitizer understands: see the file.
  lock=$PWD/$scratch/MutexSlowPath.o
  swiftc -parse-as-library -O -sanitize=thread -c Scripts/sanitizers/MutexSlowPath.swift -o "$lock"
  EDGE_SQL_BUILD+=" -Xlinker $lock"
  export TSAN_OPTIONS="log_path=$reports/report history_size=4 suppressions=$PWD/Scripts/sanitizers/thread.supp"
else
  # LeakSanitizer takes what the test runner keeps for leaks. What was freed is kept for 256 MiB by default, more than
  # the tests that measure memory allow a node.
  export ASAN_OPTIONS="detect_leaks=0 quarantine_size_mb=16 log_path=$reports/report"
fi
export EDGE_SQL_PATIENCE=${EDGE_SQL_PATIENCE:-10} EDGE_SQL_SIMULATION_PARTS=${EDGE_SQL_SIMULATION_PARTS:-10}
status=0
EDGE_SQL_TEST_MINUTES=${EDGE_SQL_TEST_MINUTES:-180} Scripts/test.sh "$@" || status=$?
if [ -n "$(ls "$reports")" ]; then
  echo
  grep -h '^SUMMARY' "$reports"/* | sort | uniq -c | sort -rn
  echo "the sanitizer has found something: $scratch/reports"
  status=1
fi
tail -n 1 "$scratch/tests.summary"
exit $status
