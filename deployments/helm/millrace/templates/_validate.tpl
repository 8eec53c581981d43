{{- /* What values.schema.json cannot say. All faults at once, one a line. */}}
{{- define "millrace.validate" -}}
{{- $faults := list }}
{{- with .Values }}
{{- if not .image.repository }}{{ $faults = append $faults "image.repository is required" }}{{ end }}
{{- if not .kafka.brokers }}{{ $faults = append $faults "kafka.brokers is required" }}{{ end }}
{{- if not .mongodb.existingSecret }}{{ $faults = append $faults "mongodb.existingSecret is required" }}{{ end }}
{{- if not .serviceToken.existingSecret }}{{ $faults = append $faults "serviceToken.existingSecret is required" }}{{ end }}
{{- if eq (empty .tokens.existingSecret) (empty .tokens.jwksURL) }}
{{- $faults = append $faults "one of tokens.existingSecret and tokens.jwksURL is required, not both" }}
{{- end }}
{{- range $name, $tls := dict "kafka.tls" .kafka.tls "redis.tls" .redis.tls }}
{{- with $tls }}
{{- if ne (empty .certKey) (empty .keyKey) }}{{ $faults = append $faults (printf "%s.certKey and keyKey: name both or neither" $name) }}{{ end }}
{{- if ne (empty .existingSecret) (and (empty .caKey) (empty .certKey)) }}
{{- $faults = append $faults (printf "%s.existingSecret and the keys in it: name both or neither" $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .kafka.tls.existingSecret (not .kafka.tls.enabled) }}
{{- $faults = append $faults "kafka.tls.enabled must be true where its files are named" }}
{{- end }}
{{- if and .redis.tls.existingSecret (not (hasPrefix "rediss://" .redis.addr)) }}
{{- $faults = append $faults "redis.addr must begin with rediss:// where files for TLS are named" }}
{{- end }}
{{- if ne .serviceTLS.enabled (not (empty .serviceTLS.existingSecret)) }}
{{- $faults = append $faults "serviceTLS.enabled and existingSecret: give both or neither" }}
{{- end }}
{{- range $name, $tls := dict "serviceTLS" .serviceTLS "connect.tls" .connect.tls "api.tls" .api.tls }}
{{- if and $tls.existingSecret (or (empty $tls.certKey) (empty $tls.keyKey)) }}
{{- $faults = append $faults (printf "%s.certKey and keyKey are required" $name) }}
{{- end }}
{{- end }}
{{- range $name, $tls := dict "connect.tls" .connect.tls "api.tls" .api.tls }}
{{- if and $tls.caKey (not $tls.existingSecret) }}
{{- $faults = append $faults (printf "%s.existingSecret is required with caKey" $name) }}
{{- end }}
{{- end }}
{{- if and .api.tls.existingSecret (not .api.existingSecret) }}
{{- $faults = append $faults "api.existingSecret is required with api.tls" }}
{{- end }}
{{- if ne (empty .kafka.sasl.mechanism) (empty .kafka.sasl.existingSecret) }}
{{- $faults = append $faults "kafka.sasl.mechanism and existingSecret: name both or neither" }}
{{- end }}
{{- if and .redis.existingSecret (not .redis.addr) }}{{ $faults = append $faults "redis.addr is required with redis.existingSecret" }}{{ end }}
{{- if gt (int .topics.minISR) (int .topics.replication) }}{{ $faults = append $faults "topics.minISR is more than topics.replication" }}{{ end }}
{{- if and .connect.ingress.enabled (not .connect.ingress.hosts) }}{{ $faults = append $faults "connect.ingress.hosts is required" }}{{ end }}
{{- if gt (int .connect.autoscaling.minReplicas) (int .connect.autoscaling.maxReplicas) }}
{{- $faults = append $faults "connect.autoscaling.minReplicas is more than maxReplicas" }}
{{- end }}
{{- if ne (empty .hook.url) (empty .hook.existingSecret) }}{{ $faults = append $faults "hook.url and existingSecret: give both or neither" }}{{ end }}
{{- range list "audit" "operations" }}
{{- if has . $.Values.message.handlers }}{{ $faults = append $faults (printf "message.handlers: %s writes a file, so give it a set of its own in workers" .) }}{{ end }}
{{- end }}
{{- $run := .message.handlers }}
{{- $partitions := int .topics.partitions }}
{{- range $name, $set := include "millrace.workers" $ | fromYaml }}
{{- $run = concat $run $set.handlers }}
{{- with $set }}
{{- if and .autoscaling.enabled (gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) }}
{{- $faults = append $faults (printf "workers.%s.autoscaling.minReplicas is more than maxReplicas" $name) }}
{{- end }}
{{- if and .autoscaling.enabled (gt (int .autoscaling.maxReplicas) $partitions) }}
{{- $faults = append $faults (printf "workers.%s.autoscaling.maxReplicas is more than topics.partitions: some would have nothing to do" $name) }}
{{- end }}
{{- if and (has "webhook" .handlers) .autoscaling.enabled }}
{{- $faults = append $faults (printf "workers.%s runs webhook, whose consumer groups the chart does not know: it wants no autoscaling" $name) }}
{{- end }}
{{- range list "audit" "operations" }}
{{- if and (has . $set.handlers) (or $set.autoscaling.enabled (ne (int $set.replicas) 1) (not $set.existingClaim)) }}
{{- $faults = append $faults (printf "workers.%s runs %s, whose log one process writes: it wants existingClaim, replicas 1 and no autoscaling" $name .) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if and (has "webhook" $run) (not .webhooks.existingSecret) }}{{ $faults = append $faults "webhooks.existingSecret is required to run webhook" }}{{ end }}
{{- range list "storage" "push" "users" "groups" "notice" "revocation" }}
{{- if not (has . $run) }}{{ $faults = append $faults (printf "nobody runs %s: add it to message.handlers or to a set in workers" .) }}{{ end }}
{{- end }}
{{- end }}
{{- with $faults }}{{ fail (printf "\nThese values do not work:\n  %s\n" (join "\n  " .)) }}{{ end }}
{{- end }}
