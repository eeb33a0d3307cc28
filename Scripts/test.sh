#!/usr/bin/env bash
# Builds all tests once, with the program that the process tests start, and runs them.
#
# usage: Scripts/test.sh [ARGUMENT OF swift test]…
#
# .build/tests.log keeps the output, .build/tests.xml what each test did, .build/tests.summary the closing lines.
# EDGE_SQL_SCRATCH builds elsewhere than in .build, EDGE_SQL_BUILD has more arguments for the build. A run that takes
# longer than EDGE_SQL_TEST_MINUTES (40) is ended, and the summary says what it was at.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${EDGE_SQL_SCRATCH:-.build}
read -ra build_arguments <<<"--scratch-path $folder ${EDGE_SQL_BUILD:-}"
mkdir -p "$folder"
build=$folder/tests-build.log log=$folder/tests.log xml=$folder/tests.xml summary=$folder/tests.summary
stacks=$folder/tests.stacks
rm -f "$log" "$xml" "$summary" "$stacks"

status=0
swift build --build-tests "${build_arguments[@]}" 2>&1 | tee "$build" || status=1
if [ $status -ne 0 ]; then
  { echo "the tests do not build"; echo "0 passed, 1 failed"; } | tee "$summary"
  exit 1
fi

# The process of the tests that this script started; nothing when it has ended.
test_process() { pgrep --session 0 --full "$(realpath "$folder")/.*PackageTests\.xctest" || true; }

# Ends a run that takes too long, and tells where its threads are.
watch_run() {
  local seconds=$((60 * ${EDGE_SQL_TEST_MINUTES:-40})) pid
  for ((; seconds > 0; seconds -= 5)); do
    sleep 5
    kill -0 $$ 2>/dev/null || return 0
  done
  for pid in $(test_process); do
    if command -v gdb >/dev/null; then
      timeout 120 gdb -p "$pid" -batch -ex 'thread apply all bt 12' 2>/dev/null | grep -E '^(Thread|#)' >"$stacks" || true
    fi
    echo "the test run took too long and was ended" >>"$stacks"
    kill -KILL "$pid"
  done
}

watch_run >/dev/null 2>&1 &
watch=$!
swift test --skip-build "${build_arguments[@]}" --disable-xctest --xunit-output "$xml" "$@" 2>&1 | tee "$log" || status=1
kill $watch 2>/dev/null || true

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

# Tests that began and did not end, by the output.
unfinished() {
  awk '
    match($0, /^◇ Test [A-Za-z0-9_]+\(.*\) started\.$/) { name = $3; sub(/\(.*/, "", name); open[name] = 1 }
    /^(✔|✘) Test / { name = $3; sub(/\(.*/, "", name); delete open[name] }
    END { for (name in open) print "not ended: " name }' "$log"
}

# Issues, what was said about each, and tests that failed.
issues() {
  awk '
    /^✘ Test run with / { said = 0; next }
    /^✘ Test .* (recorded|failed)/ { said = 1; print; next }
    /^↳ / { if (said) print; next }
    { said = 0 }' "$log"
}

{
  issues | cut -c 1-2000 | head -n 60 || true
  tail -n 1 "$stacks" 2>/dev/null || true
  grep -oE '[A-Za-z0-9]+Tests?\.swift:[0-9]+' "$stacks" 2>/dev/null | sort -u | sed 's/^/it was at /' || true
  grep -E '^/.*: (warning|error): ' "$build" | grep -v '/checkouts/' | sort -u || true
  if grep -E '^. Test run with [0-9]+ test' "$log" | tail -n 1; then
    count_report
  else
    echo "the test run ended before its summary: a test crashed the process, or never ended"
    unfinished
    echo "$(lines '✔' passed) passed, $(($(lines '✘' failed) + 1)) failed"
    status=1
  fi
} >"$summary"
echo
cat "$summary"
exit $status
