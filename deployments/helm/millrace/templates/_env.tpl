{{- /* dict "name" NAME "secret" SECRET "key" KEY */}}
{{- define "millrace.secretEnv" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef: { name: {{ quote .secret }}, key: {{ quote .key }} }
{{- end }}

{{- define "millrace.env" -}}
- name: MILLRACE_ADMIN_ADDR
  value: ':9100'
- name: MILLRACE_LOG_LEVEL
  value: {{ .Values.log.level }}
- name: MILLRACE_LOG_FORMAT
  value: {{ .Values.log.format }}
{{- with .Values.traces }}
{{- if .endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ quote .endpoint }}
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: {{ .protocol }}
- name: OTEL_TRACES_SAMPLER
  value: parentbased_traceidratio
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ quote .ratio }}
{{- end }}
{{- end }}
{{ include "millrace.secretEnv" (dict "name" "MILLRACE_SERVICE_TOKEN" "secret" .Values.serviceToken.existingSecret "key" .Values.serviceToken.key) }}
{{- with .Values.serviceTLS }}
{{- if .enabled }}
- name: MILLRACE_SERVICE_TLS
  value: 'true'
{{- include "millrace.tlsEnv" (dict "name" "service" "tls" .) }}
{{- end }}
{{- end }}
# Near the limit the garbage collector works harder, before the kernel kills the process.
- name: GOMEMLIMIT
  valueFrom:
    resourceFieldRef: { resource: limits.memory }
{{- end }}

{{- /* dict "name" "kafka" "tls" VALUES: where its files are. */}}
{{- define "millrace.tlsEnv" -}}
{{- range $name, $key := dict "CA" .tls.caKey "CERT" .tls.certKey "KEY" .tls.keyKey }}
{{- if $key }}
- name: MILLRACE_{{ upper $.name }}_TLS_{{ $name }}
  value: /etc/millrace/{{ $.name }}/{{ $key }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Secrets whose files are mounted at /etc/millrace/NAME in the pod of a component, by name, as YAML. */}}
{{- define "millrace.files" -}}
{{- $values := .root.Values }}
{{- $secrets := dict "service" ($values.serviceTLS.enabled | ternary $values.serviceTLS.existingSecret "") }}
{{- if .backends }}
{{- $secrets = merge $secrets (dict "kafka" $values.kafka.tls.existingSecret "mongodb" $values.mongodb.filesSecret "redis" $values.redis.tls.existingSecret) }}
{{- if eq .component "message" }}
{{- $secrets = merge $secrets (dict "api" $values.api.tls.existingSecret) }}
{{- end }}
{{- if has "webhook" .settings.handlers }}
{{- $secrets = merge $secrets (dict "webhooks" $values.webhooks.existingSecret) }}
{{- end }}
{{- else }}
{{- $secrets = merge $secrets (dict "connect" $values.connect.tls.existingSecret) }}
{{- end }}
{{- range $name, $secret := $secrets }}
{{- if $secret }}
{{ $name }}: {{ quote $secret }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Of the roles that work on the log and the store. */}}
{{- define "millrace.backendEnv" -}}
- name: MILLRACE_KAFKA_BROKERS
  value: {{ join "," .Values.kafka.brokers | quote }}
{{- with .Values.kafka.tls }}
{{- if .enabled }}
- name: MILLRACE_KAFKA_TLS
  value: 'true'
{{- end }}
{{- include "millrace.tlsEnv" (dict "name" "kafka" "tls" .) }}
{{- end }}
{{- with .Values.kafka.sasl }}
{{- if .mechanism }}
- name: MILLRACE_KAFKA_SASL
  value: {{ .mechanism }}
{{ include "millrace.secretEnv" (dict "name" "MILLRACE_KAFKA_SASL_USER" "secret" .existingSecret "key" .userKey) }}
{{ include "millrace.secretEnv" (dict "name" "MILLRACE_KAFKA_SASL_PASSWORD" "secret" .existingSecret "key" .passwordKey) }}
{{- end }}
{{- end }}
- name: MILLRACE_TOPIC_PARTITIONS
  value: {{ .Values.topics.partitions | quote }}
- name: MILLRACE_TOPIC_REPLICATION
  value: {{ .Values.topics.replication | quote }}
- name: MILLRACE_TOPIC_MIN_ISR
  value: {{ .Values.topics.minISR | quote }}
{{ include "millrace.secretEnv" (dict "name" "MILLRACE_MONGODB_URI" "secret" .Values.mongodb.existingSecret "key" .Values.mongodb.key) }}
{{- with .Values.redis }}
{{- if .addr }}
- name: MILLRACE_REDIS_ADDR
  value: {{ quote .addr }}
{{- if .existingSecret }}
{{ include "millrace.secretEnv" (dict "name" "MILLRACE_REDIS_PASSWORD" "secret" .existingSecret "key" .key) }}
{{- end }}
{{- include "millrace.tlsEnv" (dict "name" "redis" "tls" .tls) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The ConfigMap with the rules, for a component that goes by them. */}}
{{- define "millrace.rules" -}}
{{- if or (eq .component "message") (has "moderation" .settings.handlers) }}
{{- .root.Values.rules.existingConfigMap }}
{{- end }}
{{- end }}

{{- /* Of a component that works on the log and the store: what it decides by, and where it sends. */}}
{{- define "millrace.growthEnv" -}}
{{- if include "millrace.rules" . }}
- name: MILLRACE_RULES
  value: /etc/millrace/rules/{{ .root.Values.rules.key }}
{{- end }}
{{- if eq .component "message" }}
{{- with .root.Values.hook }}
{{- if .url }}
- name: MILLRACE_HOOK_URL
  value: {{ quote .url }}
- name: MILLRACE_HOOK_TIMEOUT
  value: {{ .timeout }}
- name: MILLRACE_HOOK_FAIL
  value: {{ .fail }}
{{ include "millrace.secretEnv" (dict "name" "MILLRACE_HOOK_SECRET" "secret" .existingSecret "key" .key) }}
{{- end }}
{{- end }}
{{- end }}
{{- if has "webhook" .settings.handlers }}
- name: MILLRACE_WEBHOOKS
  value: /etc/millrace/webhooks/{{ .root.Values.webhooks.key }}
{{- end }}
{{- end }}
