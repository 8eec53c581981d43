#!/usr/bin/env bash
# Runs every role as a process of its own over Apache Kafka, for development. Ctrl-C stops all of them and the broker.
#
#   dev.sh MILLRACE    MILLRACE is the binary.
#
# Where a container engine answers (docker or podman with compose; ENGINE names one, or none), Kafka, MongoDB and Redis are
# the containers of compose.yaml, their data its volumes. Elsewhere Kafka is installed here, which needs Java 17 and, the
# first time, Maven; it listens on KAFKA_PORT (19092) and, for itself, on the port after it; the store is SQLite, and each
# process has its own memory for marks.
#
# Everything else stays in DEV_DIR, .cache/dev of this repository by default. MILLRACE_* variables reach the roles as they are
# set, so MILLRACE_MONGODB_URI and MILLRACE_REDIS_ADDR name the MongoDB and the Redis to use.
set -euo pipefail
# Each process becomes the leader of a group of its own, so that Ctrl-C reaches this script alone and the order of the stops is kept.
set -m

millrace=${1:?usage: dev.sh MILLRACE}
here=$(cd "$(dirname "$0")" && pwd)
dir=${DEV_DIR:-$here/../.cache/dev}
port=${KAFKA_PORT:-19092}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

names=() pids=() containers=()

# start NAME COMMAND... runs the command with its output in NAME.log.
start() {
	"${@:2}" >"$dir/$1.log" 2>&1 </dev/null &
	names+=("$1") pids+=($!)
}

# stop_all stops the processes, the last one first, so that the broker stops when nobody needs it any more.
stop_all() {
	trap '' INT TERM HUP PIPE # also when whoever read the output has gone
	local i
	for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
		kill "${pids[i]}" 2>/dev/null || continue
		echo "stopping ${names[i]}" 2>/dev/null || true
		wait "${pids[i]}" 2>/dev/null || true
	done
	[ ${#containers[@]} = 0 ] || compose stop "${containers[@]}" || true
}
trap stop_all EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# fail prints the end of the log of the process that failed.
fail() {
	echo "$1 has stopped; the end of $dir/$1.log:" >&2
	tail -n 20 "$dir/$1.log" >&2
	exit 1
}

# until_ready NAME COMMAND... waits for the command to succeed while the process started last lives.
until_ready() {
	until "${@:2}" >/dev/null 2>&1; do
		kill -0 "${pids[-1]}" 2>/dev/null || fail "$1"
		sleep 0.2
	done
}

listening() { (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

# compose sets the secrets that the compose file requires for services which this script does not start.
compose() {
	MILLRACE_JWT_SECRET=none MILLRACE_SERVICE_TOKEN=none GRAFANA_ADMIN_PASSWORD=none \
		"$engine" compose --project-name millrace-dev --file "$here/compose.yaml" "$@"
}

# answers succeeds if the engine has compose and works.
answers() { "$1" compose version && timeout 5 "$1" ps; } >/dev/null 2>&1

engine=
for candidate in ${ENGINE:-docker podman}; do
	if [ "$candidate" != none ] && answers "$candidate"; then
		engine=$candidate
		break
	fi
done
if [ -z "$engine" ] && [ "${ENGINE:-none}" != none ]; then
	echo "$ENGINE does not answer, or has no compose" >&2
	exit 1
fi

# Addresses from the environment are not printed, because they may contain passwords.
store=MongoDB marks=Redis
# Each log has a directory of its own, because the data refer to positions in the log.
data=$dir/data
if [ -n "$engine" ]; then
	data=$dir/data-containers
	port=9092
	containers=(kafka)
	if [ -z "${MILLRACE_MONGODB_URI:-}" ]; then
		containers+=(mongodb)
		# The replica set knows its one member by a name that only containers have.
		export MILLRACE_MONGODB_URI='mongodb://127.0.0.1:27017/millrace?directConnection=true'
		store="MongoDB on 127.0.0.1:27017, in $engine"
	fi
	if [ -z "${MILLRACE_REDIS_ADDR:-}" ]; then
		containers+=(redis)
		export MILLRACE_REDIS_ADDR=127.0.0.1:6379
		marks="Redis on 127.0.0.1:6379, in $engine"
	fi
	log="Apache Kafka on 127.0.0.1:$port, in $engine"
	compose up --detach --wait "${containers[@]}"
else
	[ -n "${MILLRACE_REDIS_ADDR:-}" ] || marks="each process's memory"
	log="Apache Kafka on 127.0.0.1:$port"
	if listening; then
		echo "port $port is taken: set KAFKA_PORT" >&2
		exit 1
	fi
	"$here/kafka/kafka.sh" install
	start kafka "$here/kafka/kafka.sh" run "$dir/kafka" "$port" "$((port + 1))"
	until_ready kafka listening
fi

export MILLRACE_KAFKA_BROKERS=127.0.0.1:$port
export MILLRACE_DATA_DIR=${MILLRACE_DATA_DIR:-$data}
mkdir -p "$MILLRACE_DATA_DIR"
if [ -z "${MILLRACE_JWT_SECRET:-}${MILLRACE_JWKS_URL:-}" ]; then
	# `millrace client` and `millrace token` look for the secret here. It is kept, so that tokens are valid after a restart.
	secret=$MILLRACE_DATA_DIR/jwt-secret
	[ -s "$secret" ] || (umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$secret")
	MILLRACE_JWT_SECRET=$(cat "$secret")
	export MILLRACE_JWT_SECRET
fi

start message "$millrace" message --admin-addr=127.0.0.1:9100
until_ready message "$millrace" healthy --admin-addr=127.0.0.1:9100
start connect "$millrace" connect --admin-addr=127.0.0.1:9101
until_ready connect "$millrace" healthy --admin-addr=127.0.0.1:9101
start worker "$millrace" worker --handlers=audit,operations --admin-addr=127.0.0.1:9102
until_ready worker "$millrace" healthy --admin-addr=127.0.0.1:9102

[ -n "${MILLRACE_MONGODB_URI:-}" ] || store="SQLite in $MILLRACE_DATA_DIR"

cat <<HELLO
log     $log
store   $store
marks   $marks
listens connect ${MILLRACE_CONNECT_ADDR:-:8080} (/ws), message ${MILLRACE_MESSAGE_ADDR:-127.0.0.1:9090} (gRPC), worker (audit, operations)
health  127.0.0.1:9100 message, 9101 connect, 9102 worker; logs in $dir
Try it in two more terminals; Ctrl-C here stops everything:
HELLO
for pair in '1001 1002' '1002 1001'; do
	read -r user target <<<"$pair"
	echo "  $millrace client --user=$user --target=$target --token=\$($millrace token --user=$user --data-dir=$MILLRACE_DATA_DIR)"
done

wait -n || true
for i in "${!pids[@]}"; do
	kill -0 "${pids[i]}" 2>/dev/null || fail "${names[i]}"
done
