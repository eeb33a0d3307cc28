# Starts and stops nodes, for the scripts beside this one. To be sourced by bash, with two variables set:
# $edge is the program, $folder is where each node's output and log go.

node_pids=()
# Where the node that was started last serves clients, and replicas.
node_clients="" node_ships=""
# Set once a node did not start, and its log was shown.
node_failed=""

# start_node NAME ARGUMENT…: starts `edge-sql ARGUMENT…` and returns when its ready line is there.
start_node() {
  local name=$1 pid ready=""
  shift
  "$edge" "$@" >"$folder/$name.out" 2>"$folder/$name.log" </dev/null &
  pid=$!
  node_pids+=("$pid")
  for _ in $(seq 600); do
    ready=$(grep -m 1 '^ready: ' "$folder/$name.out" || true)
    [ -z "$ready" ] || break
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.05
  done
  if [ -z "$ready" ]; then
    echo "$name did not start; its log says:" >&2
    tail -n 5 "$folder/$name.log" >&2
    node_failed=$name
    return 1
  fi
  node_clients=$(sed -n 's/.*clients on \([^ ,]*\).*/\1/p' <<<"$ready")
  node_ships=$(sed -n 's/.*replicas on \([^ ,]*\).*/\1/p' <<<"$ready")
}

# stop_nodes: ends all nodes that were started here, the last one first, by their process ids.
stop_nodes() {
  local index pid
  for ((index = ${#node_pids[@]} - 1; index >= 0; index--)); do
    pid=${node_pids[index]}
    kill -TERM "$pid" 2>/dev/null || continue
    for _ in $(seq 200); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.05
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  node_pids=()
}

# member JSON NAME: the first member of that name in a line of JSON, a string without its quotation marks.
member() { grep -o "\"$2\":[^,}]*" <<<"$1" | head -n 1 | cut -d: -f2- | tr -d '"'; }

# listen PORT: that port on the loopback, or any free one (0) when somebody listens there already.
listen() {
  if (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then
    echo "port $1 is taken: another one is used" >&2
    echo 127.0.0.1:0
  else
    echo "127.0.0.1:$1"
  fi
}
