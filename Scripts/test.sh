#!/usr/bin/env bash
# Builds all tests once, with the program that the process tests start, and runs them.
#
# usage: Scripts/test.sh [ARGUMENT OF swift test]…
#
# .build/tests.log keeps the output, .build/tests.xml what each test did, .build/tests.summary the closing lines.
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p .build
rm -f .build/tests.xml .build/tests.summary
build=.build/tests-build.log log=.build/tests.log xml=.build/tests.xml summary=.build/tests.summary

status=0
swift build --build-tests 2>&1 | tee "$build" || status=1
if [ $status -ne 0 ]; then
  echo "the tests do not build" | tee "$summary"
  exit 1
fi
swift test --skip-build --disable-xctest --xunit-output "$xml" "$@" 2>&1 | tee "$log" || status=1

# count NAME: an attribute of the one suite in the report.
count() { sed -n "s/.*<testsuite [^>]*[ ]$1=\"\([0-9]*\)\".*/\1/p" "$xml" | head -n 1; }
# lines SIGN WORD: tests that ended so, by the output; for a run that ended before its report.
lines() { grep -E "^$1 Test .* $2 after " "$log" | grep -vcE "^$1 Test run with " || true; }

{
  grep -E '(warning|error): ' "$build" | grep -v '/checkouts/' | sort -u || true
  grep -E '^. Test run with [0-9]+ test' "$log" | tail -n 1 || true
  if [ -s "$xml" ]; then
    failed=$(($(count failures) + $(count errors))) skipped=$(count skipped)
    echo "$(($(count tests) - failed)) passed, $failed failed$([ "$skipped" = 0 ] || echo ", $skipped skipped")"
  else
    echo "the test run ended before its summary: a test crashed the process"
    echo "$(lines '✔' passed) passed, $(($(lines '✘' failed) + 1)) failed"
    status=1
  fi
} >"$summary"
echo
cat "$summary"
exit $status
