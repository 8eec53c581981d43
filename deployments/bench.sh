#!/usr/bin/env bash
# Compares the speed of two builds of Millrace that run side by side on this machine, each in one process with SQLite.
#
#   bench.sh MILLRACE [FLAGS]    MILLRACE is the binary; FLAGS go to "millrace bench".
#
# The other build is made from the commit REF: by default the last release or, before the first one, 11420e8, which the
# goals for speed refer to. Each has the embedded broker or, with LOG=kafka, an Apache Kafka of its own (it needs Java 17 and
# Maven). Absolute figures drift with the machine, so only the ratios count. FIRST_PORT (28000) and the fifteen ports after it
# are taken on loopback. What both store and log is gone afterwards, unless something fails.
set -euo pipefail
cd "$(dirname "$0")/.."

millrace=${1:?usage: bench.sh MILLRACE [FLAGS]}
ref=${REF:-$(git describe --tags --abbrev=0 2>/dev/null || echo 11420e8)}
log=${LOG:-embedded}
port=${FIRST_PORT:-28000}
dir=$(mktemp -d)
pids=()

stop_all() {
	local status=$? i
	for ((i = ${#pids[@]} - 1; i >= 0; i--)); do # what was started last is stopped first, and so before its broker
		kill "${pids[i]}" 2>/dev/null || true
		wait "${pids[i]}" 2>/dev/null || true
	done
	git worktree remove --force "$dir/source" 2>/dev/null || true
	if [ "$status" = 0 ]; then rm -rf "$dir"; else echo "what both have logged is in $dir" >&2; fi
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start_kafka NAME PORT runs a broker on two ports, and waits until it can be used.
start_kafka() {
	local i
	deployments/kafka/kafka.sh run "$dir/$1.kafka" "$2" $(($2 + 1)) >"$dir/$1.kafka.log" 2>&1 &
	pids+=($!)
	for ((i = 0; i < 600; i++)); do
		(: <"/dev/tcp/127.0.0.1/$2") 2>/dev/null && return
		kill -0 "${pids[-1]}" || break
		sleep 0.1
	done
	echo "Apache Kafka does not start on port $2" >&2
	return 1
}

# start NAME BINARY PORT runs a system on five ports, of which the gateway has the first, and waits until it takes connections.
start() {
	local i broker=(--embedded-kafka-addr="127.0.0.1:$(($3 + 3))")
	if [ "$log" = kafka ]; then
		start_kafka "$1" $(($3 + 3))
		broker=(--kafka-brokers="127.0.0.1:$(($3 + 3))")
	fi
	MILLRACE_API_ADDR=127.0.0.1:0 "$2" dev --data-dir="$dir/$1.data" --connect-addr="127.0.0.1:$3" --message-addr="127.0.0.1:$(($3 + 1))" \
		--admin-addr="127.0.0.1:$(($3 + 2))" "${broker[@]}" >"$dir/$1.log" 2>&1 &
	pids+=($!)
	for ((i = 0; i < 300; i++)); do
		curl -fs -o /dev/null "http://127.0.0.1:$(($3 + 2))/readyz" && return
		kill -0 "${pids[-1]}" || break
		sleep 0.1
	done
	echo "$1 does not become ready" >&2
	return 1
}

git worktree add --quiet --detach "$dir/source" "$ref"
(cd "$dir/source" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$dir/reference" ./services/millrace)
[ "$log" != kafka ] || deployments/kafka/kafka.sh install
start reference "$dir/reference" "$port"
start this "$millrace" $((port + 8))
echo "this build against $ref"
both=(--url="ws://127.0.0.1:$((port + 8))/ws" --admin="http://127.0.0.1:$((port + 10))"
	--against="ws://127.0.0.1:$port/ws" --against-admin="http://127.0.0.1:$((port + 2))")
if [[ "${*:2}" != *--mode* ]]; then # first, because it measures processes that have just started
	"$millrace" bench --mode=idle "${both[@]}"
fi
"$millrace" bench --mode=all "${both[@]}" "${@:2}"
