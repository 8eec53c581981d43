{{- define "millrace.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end }}

{{- /* Of a component: dict "root" $ "component" "message". A worker adds "set", its name. */}}
{{- define "millrace.component" -}}
{{ include "millrace.name" .root | trunc 40 | trimSuffix "-" }}-{{ .component }}{{ with .set }}-{{ . }}{{ end }}
{{- end }}

{{- define "millrace.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .set }}
millrace/set: {{ . }}
{{- end }}
{{- end }}

{{- define "millrace.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "millrace.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "millrace.name" .) "default") }}
{{- end }}

{{- define "millrace.image" -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* Every set of handlers with what it leaves out, as YAML: read it with fromYaml. `merge` takes false and 0 for left out. */}}
{{- define "millrace.workers" -}}
{{- $sets := dict }}
{{- range $name, $given := .Values.workers }}
{{- $set := deepCopy $.Values.workerDefaults }}
{{- range $key, $value := $given }}
{{- if and (kindIs "map" $value) (hasKey $set $key) }}
{{- range $inner, $v := $value }}{{ $_ := set (get $set $key) $inner $v }}{{ end }}
{{- else }}
{{- $_ := set $set $key $value }}
{{- end }}
{{- end }}
{{- $_ := set $sets $name $set }}
{{- end }}
{{- toYaml $sets }}
{{- end }}

{{- /* What gateways attach to: every node that runs push. */}}
{{- define "millrace.pushAddrs" -}}
{{- $addrs := list }}
{{- if has "push" .Values.message.handlers }}
{{- $addrs = append $addrs (printf "%s:9090" (include "millrace.component" (dict "root" . "component" "message"))) }}
{{- end }}
{{- range $name, $set := .Values.workers }}
{{- if has "push" $set.handlers }}
{{- $addrs = append $addrs (printf "%s:9090" (include "millrace.component" (dict "root" $ "component" "worker" "set" $name))) }}
{{- end }}
{{- end }}
{{- join "," $addrs }}
{{- end }}
