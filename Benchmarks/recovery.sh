#!/usr/bin/env bash
# How long replicas take to get, to catch up and to repair a database, and how many bytes that moves.
# Times stand beside `cp` and fsync of the same file in the same run.
#
# usage: [MEGABYTES=500] Benchmarks/recovery.sh PROGRAM
set -euo pipefail
edge=$1
source "$(cd "$(dirname "$0")/../Scripts" && pwd)/nodes.sh"
megabytes=${MEGABYTES:-500}
folder=$(mktemp -d)
trap 'status=$?; stop_nodes; rm -rf "$folder"; exit $status' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

now() { date +%s%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.2f s", (b - a) / 1e9 }'; }
query() { "$edge" query "$primary" "$1" --timeout-ms 60000 >/dev/null; }
# number ADDRESS NAME: the first member of that name in a node's status.
number() { "$edge" status "$1" --json | grep -o "\"$2\":[0-9]*" | head -n 1 | cut -d: -f2; }
sent() { "$edge" status "$primary" --json | grep -o '"bytes_sent":[0-9]*' | head -n 1 | cut -d: -f2; }
# wait_equal: until the replica stands where the primary does.
wait_equal() {
  local head; head=$(number "$primary" txid)
  for _ in $(seq 60000); do
    [ "$(number "$replica" txid 2>/dev/null || echo 0)" = "$head" ] && return
    sleep 0.005
  done
  echo "the replica never came" >&2
  exit 1
}
megabytes_of() { awk -v b="$1" 'BEGIN { printf "%.1f MB", b / 1e6 }'; }

start_replica() {
  start_node replica replica --upstream "$ships" --db "$folder/replica.db" --http off --listen 127.0.0.1:0 --ship off --scrub-rate 0B
  replica=$node_clients
}
start_primary() {
  start_node primary primary --db "$folder/primary.db" --http off --listen "${primary:-127.0.0.1:0}" \
    --ship "${ships:-127.0.0.1:0}" --scrub-rate 0B
  primary=$node_clients ships=$node_ships primary_pid=${node_pids[-1]}
}

echo "making a database of about $megabytes MB of text"
start_primary
query "CREATE TABLE doc(id INTEGER PRIMARY KEY, title TEXT, body TEXT, made INTEGER)"
# 5,000 documents of 80 words; what follows are parts of them, each of another length.
documents() {
  awk 'BEGIN {
    srand(7)
    count = split("the of water station and measured in replica north to every hour with pressure a bridge under was " \
      "morning signal from harbour it reported clear which temperature new line between stopped train two engineers " \
      "found valley at midnight before repair", words, " ")
    for (i = 1; i <= 5000; i++) {
      if (i % 200 == 1) printf "%sINSERT INTO doc(title, body, made) VALUES", i == 1 ? "" : ";\n"
      body = ""
      for (j = 0; j < 80; j++) body = body words[1 + int(rand() * count)] " "
      printf "%s(\047Report %d\047,\047%s\047,%d)", i % 200 == 1 ? "" : ",", i, body, 1700000000 + i * 61
    }
    print ";"
  }'
}
documents | while IFS= read -r statement; do query "$statement"; done
query "CREATE TABLE seed AS SELECT * FROM doc"
rounds=$((megabytes * 1000000 / 5000 / 500))
for round in $(seq "$rounds"); do
  query "INSERT INTO doc(title, body, made) SELECT title || '/$round', substr(body, 1 + (id * 7 + $round) % 150), made + $round FROM seed"
done
query "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)"
query "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM s LIMIT 100000) INSERT INTO t SELECT i, randomblob(100) FROM s"
stop_nodes
start_primary
bytes=$(stat -c %s "$folder/primary.db")

start=$(now)
cp "$folder/primary.db" "$folder/floor.db"
sync "$folder/floor.db"
echo "floor: cp and fsync of $(megabytes_of "$bytes"): $(since "$start")"
rm "$folder/floor.db"

start=$(now)
start_replica
echo "bootstrap: $(since "$start"), $(megabytes_of "$(sent)") sent ($(($(sent) * 100 / bytes)) % of the file)"
rss() { grep VmHWM "/proc/$1/status" | awk '{ printf "%.0f MB", $2 / 1000 }'; }
echo "memory at most: primary $(rss "$primary_pid"), replica $(rss "${node_pids[-1]}")"

stop_replica() {
  kill -TERM "${node_pids[-1]}"
  wait "${node_pids[-1]}" 2>/dev/null || true
  unset 'node_pids[-1]'
}

stop_replica
updates=$(for _ in $(seq 20000); do echo "UPDATE t SET v=randomblob(100) WHERE id=1+abs(random())%100000;"; done)
printf 'BEGIN;COMMIT;%s\n' "$updates" | "$edge" query "$primary" - >/dev/null
start=$(now)
start_replica
wait_equal
echo "20,000 missed updates: $(since "$start") from the start of the process, $(megabytes_of "$(sent)") sent"

stop_replica
for part in 0 1 2 3 4 5 6 7; do query "UPDATE doc SET made = made + 1 WHERE id % 8 = $part"; done
start=$(now)
start_replica
wait_equal
echo "every page changed: $(since "$start"), $(megabytes_of "$(sent)") sent," \
  "memory at most: primary $(rss "$primary_pid"), replica $(rss "${node_pids[-1]}")"

for _ in 1 2 3; do
  "$edge" query "$primary" "UPDATE t SET v=randomblob(100) WHERE id=7" >/dev/null
  wait_equal
  kill -KILL "$primary_pid"
  wait "$primary_pid" 2>/dev/null || true
  node_pids=("${node_pids[-1]}")
  replica_pid=${node_pids[0]}
  start=$(now)
  start_primary
  for _ in $(seq 2000); do [ -n "$(sent)" ] && break; sleep 0.005; done
  "$edge" query "$primary" "UPDATE t SET v=randomblob(100) WHERE id=8" >/dev/null
  wait_equal
  echo "kill -9 of the primary: served and followed again after $(since "$start"), $(sent) bytes sent, one update among them"
  node_pids=("$primary_pid" "$replica_pid")
done

before=$(sent)
page=$((bytes / 4096 / 2))
printf '\377' | dd of="$folder/replica.db" bs=1 seek=$((page * 4096 + 1234)) conv=notrunc status=none
start=$(now)
"$edge" verify --repair "$replica"
echo "one flipped page: found and repaired in $(since "$start"), $(($(sent) - before)) bytes sent"
"$edge" verify --fast "$folder/primary.db" "$folder/replica.db" | tail -n 1
