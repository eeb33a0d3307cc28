#!/usr/bin/env bash
# A primary with real data and two replicas on this machine, checked, and then yours to try until Ctrl-C.
#
# usage: [DB=FILE] [ONCE=1] Scripts/run.sh PROGRAM
#
# DB=FILE serves a copy of a SQLite file instead of the example data; the file itself is never written to.
# ONCE=1 stops after the check. Exit status: 0 the check passed, 1 it did not.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/nodes.sh"

edge=$1
DB=${DB:-} ONCE=${ONCE:-}

fail() { echo "run: $*" >&2; exit 1; }

# --- Where the files go

if [ "$ONCE" = 1 ]; then
  folder=$(mktemp -d)
else
  folder=$(dirname "$here")/run
  mkdir -p "$folder"
  # The nodes inherit this lock: two runs cannot work on the same files.
  exec 9>"$folder/lock"
  flock --nonblock 9 || fail "another 'make run' is using $folder"
  rm -f "$folder"/*.db* "$folder"/*.out "$folder"/*.log
fi

# What the nodes said last: the folder with their logs is about to go.
show_logs() {
  local log
  for log in "$folder"/*.log; do
    [ ! -s "$log" ] || { echo "--- $(basename "$log")"; tail -n 20 "$log"; }
  done
}

finish() {
  local status=$?
  trap - EXIT
  trap '' INT TERM HUP
  [ -n "$ONCE" ] || echo "stopping"
  stop_nodes
  if [ "$ONCE" = 1 ]; then
    [ $status -eq 0 ] || [ -n "$node_failed" ] || show_logs >&2
    rm -rf "$folder"
  fi
  exit $status
}
trap finish EXIT
# Ctrl-C is how this is meant to end, but it must not look as if the check had passed.
trap 'exit $((checked ? 0 : 130))' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
checked=0

# --- A primary with data

# copy_database FILE COPY: a consistent copy, made without writing to the file.
copy_database() {
  local file=$1 copy=$2 before
  [ -f "$file" ] && [ -r "$file" ] || fail "$file is not a file that can be read"
  if [ -s "$file-wal" ] || [ -s "$file-journal" ]; then
    # Part of the data is in another file, or a program is at work: only SQLite knows what counts.
    command -v sqlite3 >/dev/null \
      || fail "$file is in use, or was not closed: close it, or install the sqlite3 shell, which copies it safely"
    sqlite3 -readonly "$file" ".timeout 5000" ".backup '${copy//\'/\'\'}'" || fail "$file could not be copied"
  else
    before=$(stat -c '%Y %s' "$file")
    cp -- "$file" "$copy"
    [ "$before" = "$(stat -c '%Y %s' "$file")" ] && [ ! -s "$file-journal" ] && [ ! -s "$file-wal" ] \
      || fail "$file was written to while it was copied: try again when it is not in use"
  fi
  chmod u+w "$copy"
}

primary_db=$folder/primary.db
port() { if [ "$ONCE" = 1 ]; then echo 127.0.0.1:0; else listen "$1"; fi; }

if [ -n "$DB" ]; then
  copy_database "$DB" "$primary_db"
  echo "serving a copy of $DB: nothing is written to the file itself"
fi
start_node primary primary --db "$primary_db" --name primary --listen "$(port 7380)" --http "$(port 8080)" --ship "$(port 7381)"
primary=$node_clients ships=$node_ships

if [ -z "$DB" ]; then
  echo "filling the primary with the countries, their subdivisions and the languages of the world"
  "$here/iso-codes.sh" >"$folder/data.sql"
  "$edge" shell "$primary" --mode csv <"$folder/data.sql" >/dev/null || fail "the data could not be inserted"
fi

# --- Two replicas

start_node replica-1 replica --upstream "$ships" --db "$folder/replica-1.db" --name replica-1 \
  --listen "$(port 7390)" --http "$(port 8090)" --ship off
replica_1=$node_clients
start_node replica-2 replica --upstream "$ships" --db "$folder/replica-2.db" --name replica-2 \
  --listen "$(port 7391)" --http "$(port 8091)" --ship off
replica_2=$node_clients

# --- Write through one replica, read on the other

note="written through replica-1 at $(date -u +%FT%TZ)"
"$edge" query "$replica_1" "CREATE TABLE IF NOT EXISTS edge_visit(id INTEGER PRIMARY KEY, note TEXT NOT NULL)" >/dev/null
"$edge" query "$replica_1" "INSERT INTO edge_visit(note) VALUES (?)" --args "$note" --show-token \
  >/dev/null 2>"$folder/token" || { cat "$folder/token" >&2; fail "the write through replica-1 failed"; }
token=$(tail -n 1 "$folder/token")
# on-lag error: the row must come from replica-2's own file, not from the primary behind it.
seen=$("$edge" query "$replica_2" "SELECT note FROM edge_visit ORDER BY id DESC LIMIT 1" \
  --token "$token" --wait-ms 10000 --on-lag error --mode csv | tail -n 1 | tr -d '\r"')
[ "$seen" = "$note" ] || fail "replica-2 answered \"$seen\" instead of \"$note\""
checked=1

show_node() {
  local status
  status=$("$edge" status "$2" --json)
  printf '  %-10s %-16s position %-24s' "$1" "$2" "$(member "$status" position)"
  if [ "$(member "$status" role)" = replica ]; then
    printf ' lag %s transactions, %s ms' "$(member "$status" lag_txns)" "$(member "$status" lag_ms)"
  else
    printf ' shipped %s transactions, %s bytes of pages in %s bytes' \
      "$(member "$status" transactions)" "$(member "$status" raw_bytes)" "$(member "$status" encoded_bytes)"
  fi
  echo
}

echo
echo "a row written through replica-1 was read on replica-2 with the token $token:"
echo "  $seen"
show_node primary "$primary"
show_node replica-1 "$replica_1"
show_node replica-2 "$replica_2"
"$edge" status "$primary" --json | grep -o '"name":"replica-[^}]*' | while read -r line; do
  echo "  $(member "$line" name) was sent $(member "$line" bytes_sent) bytes, its first copy included"
done
[ "$ONCE" != 1 ] || exit 0

# --- Stay up

if [ -n "$DB" ]; then select="SELECT name FROM sqlite_schema LIMIT 5"
else select="SELECT name FROM country WHERE alpha_2 = 'IS'"; fi
cat <<TEXT

Try, in another terminal:
  echo "$select" | nc -N ${replica_1/:/ }
  echo '["INSERT INTO edge_visit(note) VALUES (?)", "hello"]' | nc -N ${replica_1/:/ }
  echo "SELECT * FROM edge_visit" | nc -N ${replica_2/:/ }
  $edge shell $replica_2
  $edge status $primary --watch
  sqlite3 ${folder#"$PWD"/}/replica-2.db "$select"

Files and logs are in ${folder#"$PWD"/}. Ctrl-C ends it all.
TEXT
wait -n "${node_pids[@]}" || true
fail "a node ended by itself; the logs are in $folder"
