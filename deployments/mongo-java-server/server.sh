#!/usr/bin/env bash
# Runs a server that speaks the MongoDB wire protocol on loopback, for tests: mongo-java-server, which keeps everything in
# memory, so that what it has is gone when it ends. It needs Java 17, and Maven to install it.
#
#   server.sh install     copy its jars from Maven Central to MONGO_JAVA_SERVER_DIR, once
#   server.sh run PORT    run it in the foreground; SIGTERM stops it
#
# MONGO_JAVA_SERVER_DIR is .cache/mongo-java-server of this repository by default.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
MONGO_JAVA_SERVER_DIR=${MONGO_JAVA_SERVER_DIR:-$here/../../.cache/mongo-java-server}

# install does nothing if the installation was made from this pom.xml.
install() {
	cmp -s "$here/pom.xml" "$MONGO_JAVA_SERVER_DIR/pom.xml" && return
	rm -rf "$MONGO_JAVA_SERVER_DIR"
	mkdir -p "$MONGO_JAVA_SERVER_DIR"
	mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$(cd "$MONGO_JAVA_SERVER_DIR" && pwd)/libs"
	cp "$here/pom.xml" "$MONGO_JAVA_SERVER_DIR/pom.xml"
}

# Java replaces this process, so that the caller of the script owns the server.
run() {
	exec java -Xms64m -Xmx512m -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
		-cp "$MONGO_JAVA_SERVER_DIR/libs/*" "$here/Server.java" "${1:?usage: server.sh run PORT}"
}

case ${1:-} in
install) install ;;
run) run "${@:2}" ;;
*)
	sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0" >&2
	exit 2
	;;
esac
