{{- /*
The pod of a component: dict "root" $ "component" NAME "set" SET "settings" VALUES "args" LIST "env" YAML "ports" DICT
"backends" true if it works on the log and the store, "claim" of /data, "preStop" seconds to go on serving at first.
*/}}
{{- define "millrace.pod" -}}
metadata:
  labels:
    {{- include "millrace.selector" . | nindent 4 }}
    app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  {{- with .settings.podAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "millrace.serviceAccount" .root }}
  automountServiceAccountToken: false
  enableServiceLinks: false # variables named after Services would look like settings
  terminationGracePeriodSeconds: {{ .root.Values.terminationGracePeriodSeconds }}
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ quote . }}
    {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: { type: RuntimeDefault }
  containers:
    - name: millrace
      image: {{ include "millrace.image" .root | quote }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: {{ toJson .args }}
      env:
        {{- include "millrace.env" .root | nindent 8 }}
        {{- if .backends }}
        {{- include "millrace.backendEnv" .root | nindent 8 }}
        {{- include "millrace.growthEnv" . | nindent 8 }}
        {{- end }}
        {{- with .env }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with .settings.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        {{- range $name, $port := .ports }}
        - { name: {{ $name }}, containerPort: {{ $port }} }
        {{- end }}
        - { name: admin, containerPort: 9100 }
      # This probe succeeds also while the process waits for Kafka or MongoDB; the readiness probe does not.
      startupProbe:
        httpGet: { path: /healthz, port: admin }
        periodSeconds: 2
        timeoutSeconds: 3
        failureThreshold: 30
      livenessProbe:
        httpGet: { path: /healthz, port: admin }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: { path: /readyz, port: admin }
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 2
      {{- with .preStop }}
      # Load balancers learn first that this pod goes.
      lifecycle:
        preStop:
          sleep: { seconds: {{ . }} }
      {{- end }}
      resources: {{- toYaml .settings.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: { drop: [ALL] }
      {{- $files := include "millrace.files" . | fromYaml }}
      {{- $rules := include "millrace.rules" . }}
      {{- if or $files $rules .claim }}
      volumeMounts:
        {{- range $name, $_ := $files }}
        - { name: {{ $name }}, mountPath: /etc/millrace/{{ $name }}, readOnly: true }
        {{- end }}
        {{- if $rules }}
        - { name: rules, mountPath: /etc/millrace/rules, readOnly: true }
        {{- end }}
        {{- if .claim }}
        - { name: data, mountPath: /data }
        {{- end }}
      {{- end }}
  {{- if or $files $rules .claim }}
  volumes:
    {{- range $name, $secret := $files }}
    - name: {{ $name }}
      secret: { secretName: {{ quote $secret }}, defaultMode: 0440 }
    {{- end }}
    {{- with $rules }}
    - name: rules
      configMap: { name: {{ quote . }} }
    {{- end }}
    {{- with .claim }}
    - name: data
      persistentVolumeClaim: { claimName: {{ quote . }} }
    {{- end }}
  {{- end }}
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "millrace.selector" $ | nindent 10 }}
    {{- end }}
  {{- with .settings.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .settings.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .settings.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .settings.priorityClassName }}
  priorityClassName: {{ quote . }}
  {{- end }}
{{- end }}

{{- define "millrace.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "millrace.component" . }}
  labels: {{- include "millrace.labels" .root | nindent 4 }}
spec:
  {{- toYaml .settings.podDisruptionBudget | nindent 2 }}
  # Pods that are not ready, as all are while the store is down, do not keep a node from being drained.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "millrace.selector" . | nindent 6 }}
{{- end }}

{{- /*
Every node by itself, for gateways: each has a connection and a stream to every address of the name. Also those that are
not ready: while the store is down no node is, and sends and pushes go on all the same.
*/}}
{{- define "millrace.nodesService" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "millrace.component" . }}
  labels: {{- include "millrace.labels" .root | nindent 4 }}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {{- include "millrace.selector" . | nindent 4 }}
  ports:
    - { name: grpc, port: 9090, targetPort: grpc }
{{- end }}
