#!/usr/bin/env bash
# Builds all tests once, with the program that the process tests start, and runs them.
#
# usage: Scripts/test.sh [ARGUMENT OF swift test]…
#
# .build/tests.log keeps the output, .build/tests.xml what each test did, .build/tests.summary the closing lines.
# EDGE_SQL_SCRATCH builds elsewhere than in .build, EDGE_SQL_BUILD has more arguments for the build.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${EDGE_SQL_SCRATCH:-.build}
read -ra build_arguments <<<"--scratch-path $folder ${EDGE_SQL_BUILD:-}"
mkdir -p "$folder"
build=$folder/tests-build.log log=$folder/tests.log xml=$folder/tests.xml summary=$folder/tests.summary
rm -f "$log" "$xml" "$summary"

status=0
swift build --build-tests "${build_arguments[@]}" 2>&1 | tee "$build" || status=1
if [ $status -ne 0 ]; then
  { echo "the tests do not build"; echo "0 passed, 1 failed"; } | tee "$summary"
  exit 1
fi
swift test --skip-build "${build_arguments[@]}" --disable-xctest --xunit-output "$xml" "$@" 2>&1 | tee "$log" || status=1

# Counts tests, not issues: a test with several cases that fail is one.
count_report() {
  awk '
    /<testcase / { tests++; failed = skipped = 0 }
    /<failure/ { failed = 1 }
    /<skipped/ { skipped = 1 }
    /<\/testcase>/ || /<testcase .*\/>/ { failures += failed; skips += skipped; failed = skipped = 0 }
    END {
      printf "%d passed, %d failed", tests - failures - skips, failures
      if (skips) printf ", %d skipped", skips
      print ""
    }' "$xml"
}

# lines SIGN WORD: how many tests ended so, by the output of a run that has no report.
lines() { grep -E "^$1 Test .* $2 after " "$log" | grep -vcE "^$1 Test run with " || true; }

{
  grep -E '^/.*: (warning|error): ' "$build" | grep -v '/checkouts/' | sort -u || true
  if grep -E '^. Test run with [0-9]+ test' "$log" | tail -n 1; then
    count_report
  else
    echo "the test run ended before its summary: a test crashed the process"
    echo "$(lines '✔' passed) passed, $(($(lines '✘' failed) + 1)) failed"
    status=1
  fi
} >"$summary"
echo
cat "$summary"
exit $status
