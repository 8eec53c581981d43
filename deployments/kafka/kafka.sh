#!/usr/bin/env bash
# Runs Apache Kafka on loopback without containers, for tests and development. It needs Java 17, and Maven to install it.
#
#   kafka.sh install                          copy Kafka's jars from Maven Central to KAFKA_DIR, once
#   kafka.sh run DIR PORT CONTROLLER_PORT     run one broker in the foreground, its data in DIR; SIGTERM stops it
#   kafka.sh run DIR PORT CONTROLLER_PORT ID CONTROLLERS
#                                             the same as one of three, for topics with three replicas, two of which must
#                                             have a record; CONTROLLERS is 1@127.0.0.1:PORT,2@…,3@…
#   kafka.sh with COMMAND [ARG]...            run a command beside a broker with an empty log; the command finds it in
#                                             MILLRACE_TEST_KAFKA_BROKERS and the installation in MILLRACE_TEST_KAFKA
#
# KAFKA_DIR is .cache/kafka of this repository by default.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
KAFKA_DIR=${KAFKA_DIR:-$here/../../.cache/kafka}

# install does nothing if the installation was made from this pom.xml.
install() {
	cmp -s "$here/pom.xml" "$KAFKA_DIR/pom.xml" && return
	rm -rf "$KAFKA_DIR"
	mkdir -p "$KAFKA_DIR"
	mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$(cd "$KAFKA_DIR" && pwd)/libs"
	cp "$here/pom.xml" "$KAFKA_DIR/pom.xml"
}

# Java replaces this process, so that the caller of the script owns the broker.
kafka_class() {
	exec java -Xms256m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel="${1:?}" -Dlog4j2.level=WARN -cp "$KAFKA_DIR/libs/*" "${@:2}"
}

run() {
	local dir=$1 port=$2 controller_port=$3 id=${4:-1} controllers=${5:-1@127.0.0.1:$3}
	local replication=1 min_isr=1
	[[ $controllers != *,* ]] || { replication=3; min_isr=2; }
	mkdir -p "$dir"
	cat >"$dir/server.properties" <<-PROPERTIES
		process.roles=broker,controller
		node.id=$id
		controller.quorum.voters=$controllers
		controller.listener.names=CONTROLLER
		listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
		listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller_port
		advertised.listeners=PLAINTEXT://127.0.0.1:$port
		log.dirs=$dir/log
		# Whoever creates a topic sets its partitions and retention.
		auto.create.topics.enable=false
		default.replication.factor=$replication
		min.insync.replicas=$min_isr
		offsets.topic.replication.factor=$replication
		transaction.state.log.replication.factor=$replication
		transaction.state.log.min.isr=$min_isr
		share.coordinator.state.topic.replication.factor=$replication
		share.coordinator.state.topic.min.isr=$min_isr
		# The internal topics are small: there are few groups on one machine.
		offsets.topic.num.partitions=5
		transaction.state.log.num.partitions=5
		# The first member of a group does not wait for others.
		group.initial.rebalance.delay.ms=0
		# Tests delete topics with hundreds of partitions.
		log.segment.delete.delay.ms=1000
	PROPERTIES
	if [ ! -f "$dir/log/meta.properties" ]; then
		(kafka_class 1 kafka.tools.StorageTool format --cluster-id TWlsbHJhY2UtdGVzdHMtMQ --config "$dir/server.properties") >"$dir/format.log" 2>&1 ||
			{ cat "$dir/format.log" >&2; exit 1; }
	fi
	kafka_class 4 kafka.Kafka "$dir/server.properties"
}

# with waits until the broker listens, which it does when it can be used.
with() {
	local status=0 port controller_port
	port=$(free_port) controller_port=$(free_port)
	dir=$(mktemp -d) # global, like broker, for what runs at the end
	"$0" run "$dir" "$port" "$controller_port" >"$dir/broker.log" 2>&1 &
	broker=$!
	trap 'kill "$broker" 2>/dev/null || true; wait "$broker" 2>/dev/null || true; rm -rf "$dir"' EXIT
	until (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
		kill -0 "$broker" 2>/dev/null || { cat "$dir/broker.log" >&2; exit 1; }
		sleep 0.2
	done
	MILLRACE_TEST_KAFKA=$(cd "$KAFKA_DIR" && pwd) MILLRACE_TEST_KAFKA_BROKERS=127.0.0.1:$port "$@" || status=$?
	[ "$status" = 0 ] || { echo "== the broker's log"; tail -n 50 "$dir/broker.log"; } >&2
	return "$status"
}

# free_port prints a port that nobody listens on, below those that the system assigns by itself.
free_port() {
	local port
	while port=$((20000 + RANDOM % 10000)); (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
	echo "$port"
}

case ${1:-} in
install) install ;;
run) run "${@:2}" ;;
with) with "${@:2}" ;;
*)
	sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0" >&2
	exit 2
	;;
esac
