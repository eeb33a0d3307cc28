#!/usr/bin/env bash
# A short measurement on this machine: a primary and a replica on the loopback, lag, reads and writes.
#
# usage: Scripts/bench.sh PROGRAM
set -euo pipefail
source "$(cd "$(dirname "$0")" && pwd)/nodes.sh"

edge=$1
folder=$(mktemp -d)
trap 'status=$?; stop_nodes; rm -rf "$folder"; exit $status' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

start_node primary primary --db "$folder/primary.db" --http off --listen 127.0.0.1:0 --ship 127.0.0.1:0
primary=$node_clients
start_node replica replica --upstream "$node_ships" --db "$folder/replica.db" --http off --listen 127.0.0.1:0 --ship off
replica=$node_clients

"$edge" bench --primary "$primary" --replica "$replica"
