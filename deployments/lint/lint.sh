#!/usr/bin/env bash
# Checks scripts, Dockerfile, compose file and Helm chart without a container engine or a cluster, and that each check
# refuses what is wrong. Needs bin/millrace, Go and Python 3.11 or newer with venv; what it installs is in .cache/lint.
set -euo pipefail
cd "$(dirname "$0")/../.."

cache=$PWD/.cache/lint
chart=deployments/helm/millrace
# The oldest version that the chart admits, and the newest that has schemas.
versions=(1.30.0 1.37.0)

tool() { go tool -modfile=".tools/$1.mod" "$@"; }

# refused TEXT COMMAND... succeeds if the command fails and prints the text.
refused() {
	local said
	if said=$("${@:2}" 2>&1); then
		echo "not refused: ${*:2}" >&2
		return 1
	fi
	[[ $said == *"$1"* ]] || { printf 'refused for another reason than "%s": %s\n%s\n' "$1" "${*:2}" "$said" >&2; return 1; }
}

install() {
	cat deployments/lint/requirements.txt deployments/lint/schemas.py | cmp -s - "$cache/made-from" && return
	rm -rf "$cache"
	python3 -m venv "$cache"
	"$cache/bin/pip" install --quiet --disable-pip-version-check --no-deps -r deployments/lint/requirements.txt
	"$cache/bin/python" deployments/lint/schemas.py "$cache/schemas" "${versions[@]}"
	cat deployments/lint/requirements.txt deployments/lint/schemas.py >"$cache/made-from"
}

scripts() {
	local scripts
	mapfile -t scripts < <(git ls-files '*.sh' .ci/run)
	"$cache/bin/shellcheck" "${scripts[@]}"
	# shellcheck disable=SC2016
	refused SC2086 "$cache/bin/shellcheck" --shell=bash - <<<'rm $1'
}

dockerfile() {
	"$cache/bin/hadolint" deployments/Dockerfile
	refused DL3006 "$cache/bin/hadolint" - <<<'FROM debian'
}

compose_check() {
	# The secrets that the file requires.
	MILLRACE_JWT_SECRET=x MILLRACE_SERVICE_TOKEN=x GRAFANA_ADMIN_PASSWORD=x \
		"$cache/compose" "$1" connect-1 connect-2 grafana
}

# broken_compose NAME SED makes a copy of the compose file with a fault.
broken_compose() {
	local file=$cache/$1.yaml
	sed "$2" deployments/compose.yaml >"$file"
	echo "$file"
}

compose() {
	go build -C deployments/lint/compose -o "$cache/compose" .
	compose_check deployments/compose.yaml
	refused 'healthchek' compose_check "$(broken_compose field 's/healthcheck:/healthchek:/')"
	refused 'undefined service' compose_check "$(broken_compose service 's/redis: {condition/redos: {condition/')"
	refused 'is open to other machines' compose_check "$(broken_compose port "s/'127.0.0.1:6379:/'6379:/")"
	refused 'is not pinned' compose_check "$(broken_compose tag 's/image: redis:.*/image: redis:latest/')"
	# The copy is not beside the files that it mounts.
	refused 'no such file' compose_check "$(broken_compose mounts '')"
	refused 'is missing a value' "$cache/compose" deployments/compose.yaml
}

template() { tool helm template millrace "$chart" --kube-version "${versions[0]}" "$@"; }

kubeconform() {
	tool kubeconform -strict -summary -kubernetes-version "$1" \
		-schema-location "$cache/schemas/{{ .NormalizedKubernetesVersion }}/{{ .ResourceKind }}{{ .KindSuffix }}.json" \
		-schema-location "$cache/schemas/{{ .ResourceKind }}{{ .KindSuffix }}.json" "${@:2}"
}

chart() {
	local values version fault
	for values in least all; do
		tool helm lint --strict --quiet "$chart" --kube-version "${versions[0]}" -f "$chart/ci/$values-values.yaml"
		template -f "$chart/ci/$values-values.yaml" >"$cache/$values.yaml"
		for version in "${versions[@]}"; do
			kubeconform "$version" "$cache/$values.yaml"
		done
	done
	refused 'image.repository is required' template
	refused "additional properties 'handler' not allowed" template -f "$chart/ci/all-values.yaml" --set message.handler=push
	refused "at '/image/tag'" template -f "$chart/ci/all-values.yaml" --set image.tag=latest
	refused 'webhooks.existingSecret is required' template -f "$chart/ci/all-values.yaml" --set webhooks.existingSecret=
	refused 'hook.url and existingSecret' template -f "$chart/ci/all-values.yaml" --set hook.existingSecret=
	refused 'runs webhook, whose consumer groups' template -f "$chart/ci/all-values.yaml" --set workers.others.autoscaling.enabled=true
	refused 'nobody runs storage' template -f "$chart/ci/all-values.yaml" --set workers.storage=null
	# Together these faults are in every kind of resource.
	for fault in s/runAsNonRoot/runAsRoot/ s/publishNotReadyAddresses/publishAll/ s/automountServiceAccountToken/mount/ \
		s/unhealthyPodEvictionPolicy/policy/ s/pathType/path_type/ s/averageValue/average/ s/minReplicaCount/minReplicas/ \
		s/secretTargetRef/secretRef/ s/podMetricsEndpoints/endpoints/; do
		sed "$fault" "$cache/all.yaml" >"$cache/broken.yaml"
		refused 'additional properties' kubeconform "${versions[0]}" "$cache/broken.yaml"
	done
}

# settings checks that a role reads each variable that is set anywhere, because others would have no effect.
settings() {
	local role known=' ' variable
	for role in message connect worker; do
		known+=$(bin/millrace "$role" --help | grep -o -- ' --[a-z-]*' | tr -d '\n')' '
	done
	while read -r variable; do
		variable=${variable#MILLRACE_} variable=${variable,,}
		[[ $known == *" --${variable//_/-} "* ]] || { echo "no role has a setting --${variable//_/-}" >&2; return 1; }
	done < <(sed 's/#.*//' "$@" | grep -oh 'MILLRACE_[A-Z0-9_]*' | sort -u)
}

install
scripts
dockerfile
compose
chart
settings deployments/compose.yaml deployments/Dockerfile "$cache/all.yaml" "$cache/least.yaml"
refused 'no role has a setting --service-tokens' settings <(echo MILLRACE_SERVICE_TOKENS)
