#!/usr/bin/env bash
# Runs libFuzzer over every decoder, two at a time, each for FUZZ_SECONDS (default 20), or until it had FUZZ_RUNS inputs.
#
# usage: Scripts/fuzz.sh [CHECK]…
#
# What is found goes to .build-fuzz/found and is where the next run goes on; the checked-in seeds of Fuzz/Corpus are
# only read. An input that breaks a decoder is kept in Fuzz/crashes, with the command that runs it again.
set -euo pipefail
cd "$(dirname "$0")/.."

# Coverage for all modules, those of the packages that this one depends on too.
coverage=-sanitize-coverage=edge,trace-cmp,inline-8bit-counters,pc-table
swift build --package-path Fuzz --scratch-path .build-fuzz --product fuzz --sanitize=address -Xswiftc $coverage -Xswiftc -O
fuzz=$(swift build --package-path Fuzz --scratch-path .build-fuzz --show-bin-path)/fuzz

# The backtracer of Swift would take the crash away from the fuzzer.
export SWIFT_BACKTRACE=enable=no ASAN_OPTIONS=detect_leaks=0
export fuzz seconds=${FUZZ_SECONDS:-20} runs=${FUZZ_RUNS:--1}
mkdir -p Fuzz/crashes .build-fuzz/logs

one() {
  local check=$1 log=.build-fuzz/logs/$1.log
  mkdir -p ".build-fuzz/found/$check"
  if timeout $((seconds + 120)) "$fuzz" "$check" -max_total_time="$seconds" -runs="$runs" -timeout=10 \
    -rss_limit_mb=2048 -max_len=8192 -print_final_stats=1 -artifact_prefix="Fuzz/crashes/$check-" \
    ".build-fuzz/found/$check" "Fuzz/Corpus/$check" >"$log" 2>&1; then
    echo "$check: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs, $(grep -oE 'cov: [0-9]+' "$log" | tail -n 1)"
  else
    echo "$check: FAILED"
    tail -n 15 "$log" | cut -c1-300
    sed -n 's/.*Test unit written to \(.*\)/again: SWIFT_BACKTRACE=enable=no '"${fuzz//\//\\/} $check"' \1/p' "$log"
    return 1
  fi
}
export -f one

if [ $# -eq 0 ]; then set -- $("$fuzz"); fi
status=0
printf '%s\n' "$@" | xargs -P 2 -I{} bash -c 'one {}' || status=1
rmdir Fuzz/crashes 2>/dev/null || true
[ $status -eq 0 ] && echo "$# decoders, no crash" || echo "a decoder broke: see above"
exit $status
