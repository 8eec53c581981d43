#!/usr/bin/env bash
# Compares the speed of two builds of Millrace that run side by side on this machine, each in one process on embedded defaults.
#
#   bench.sh MILLRACE [FLAGS]    MILLRACE is the binary; FLAGS go to "millrace bench".
#
# The other build is made from the commit REF: by default the last release or, before the first one, 11420e8, which the
# goals for speed refer to. Absolute figures drift with the machine, so only the ratios count. FIRST_PORT (28000) and the
# seven ports after it are taken on loopback. What both store and log is gone afterwards, unless something fails.
set -euo pipefail
cd "$(dirname "$0")/.."

millrace=${1:?usage: bench.sh MILLRACE [FLAGS]}
ref=${REF:-$(git describe --tags --abbrev=0 2>/dev/null || echo 11420e8)}
port=${FIRST_PORT:-28000}
dir=$(mktemp -d)
pids=()

stop_all() {
	local status=$?
	[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true
	wait
	git worktree remove --force "$dir/source" 2>/dev/null || true
	if [ "$status" = 0 ]; then rm -rf "$dir"; else echo "what both have logged is in $dir" >&2; fi
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start NAME BINARY PORT runs a system on four ports; the gateway has the first one.
start() {
	MILLRACE_API_ADDR=127.0.0.1:0 "$2" dev --data-dir="$dir/$1.data" --connect-addr="127.0.0.1:$3" --message-addr="127.0.0.1:$(($3 + 1))" \
		--admin-addr="127.0.0.1:$(($3 + 2))" --embedded-kafka-addr="127.0.0.1:$(($3 + 3))" >"$dir/$1.log" 2>&1 &
	pids+=($!)
}

# await_ready PORT PID waits until the system whose gateway is there takes connections.
await_ready() {
	local i
	for ((i = 0; i < 300; i++)); do
		kill -0 "$2" || break
		curl -fs -o /dev/null "http://127.0.0.1:$(($1 + 2))/readyz" && return
		sleep 0.1
	done
	echo "the system on port $1 does not become ready" >&2
	return 1
}

git worktree add --quiet --detach "$dir/source" "$ref"
(cd "$dir/source" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$dir/reference" ./services/millrace)
start reference "$dir/reference" "$port"
start this "$millrace" $((port + 4))
await_ready "$port" "${pids[0]}"
await_ready $((port + 4)) "${pids[1]}"
echo "this build against $ref"
both=(--url="ws://127.0.0.1:$((port + 4))/ws" --admin="http://127.0.0.1:$((port + 6))"
	--against="ws://127.0.0.1:$port/ws" --against-admin="http://127.0.0.1:$((port + 2))")
if [[ "${*:2}" != *--mode* ]]; then # first, because it measures processes that have just started
	"$millrace" bench --mode=idle "${both[@]}"
fi
"$millrace" bench --mode=all "${both[@]}" "${@:2}"
