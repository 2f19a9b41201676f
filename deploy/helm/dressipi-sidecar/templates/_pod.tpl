{{/* What follows is for an app's own chart as well: see README.md. */}}

{{- define "dressipi-sidecar.isRedb" -}}
{{- if eq .Values.config.session.store "redb" }}yes{{ end }}
{{- end }}

{{- define "dressipi-sidecar.hasRedisPassword" -}}
{{- if and (eq .Values.config.session.store "redis") (dig "redis" "password_file" "" .Values.config.session) }}yes{{ end }}
{{- end }}

{{/* The configuration as JSON: as YAML large numbers would come out as 1e+06. */}}
{{- define "dressipi-sidecar.config" -}}
{{- $config := deepCopy .Values.config }}
{{- $unused := ternary "redis" "path" (eq $config.session.store "redb") }}
{{- $_ := unset $config.session $unused }}
{{- toPrettyJson $config }}
{{- end }}

{{- define "dressipi-sidecar.annotations" -}}
{{- if not .Values.reload -}}
checksum/config: {{ include "dressipi-sidecar.config" . | sha256sum }}
{{- end }}
{{- if .Values.secrets.redis.create }}
checksum/redis: {{ toJson .Values.secrets.redis.create | sha256sum }}
{{- end }}
{{- end }}

{{- define "dressipi-sidecar.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{- define "dressipi-sidecar.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "dressipi-sidecar.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "dressipi-sidecar.container" -}}
name: dressipi-sidecar
image: {{ include "dressipi-sidecar.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [serve, --config, /etc/dressipi-sidecar/sidecar.json]
{{- with .Values.env }}
env: {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - name: http
    containerPort: {{ include "dressipi-sidecar.port" (first .Values.config.listeners).address }}
  - name: admin
    containerPort: {{ include "dressipi-sidecar.port" .Values.config.admin.address }}
startupProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 1
  failureThreshold: {{ ternary 120 30 (eq (include "dressipi-sidecar.isRedb" .) "yes") }}
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
livenessProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- with .Values.preStopSeconds }}
lifecycle:
  preStop:
    sleep:
      seconds: {{ . }}
{{- end }}
resources: {{- toYaml .Values.resources | nindent 2 }}
securityContext: {{- include "dressipi-sidecar.containerSecurityContext" . | nindent 2 }}
volumeMounts:
  - name: dressipi-sidecar-config
    mountPath: /etc/dressipi-sidecar
    readOnly: true
  - name: dressipi-sidecar-secrets
    mountPath: /run/secrets/dressipi-sidecar
    readOnly: true
{{- if include "dressipi-sidecar.hasRedisPassword" . }}
  - name: dressipi-sidecar-redis
    mountPath: /run/secrets/dressipi-sidecar-redis
    readOnly: true
{{- end }}
{{- if include "dressipi-sidecar.isRedb" . }}
  - name: dressipi-sidecar-store
    mountPath: {{ dir .Values.config.session.path }}
{{- end }}
{{- end }}

{{- define "dressipi-sidecar.volumes" -}}
- name: dressipi-sidecar-config
  configMap:
    name: {{ include "dressipi-sidecar.fullname" . }}
- name: dressipi-sidecar-secrets
  secret:
    secretName: {{ include "dressipi-sidecar.secret" . }}
    defaultMode: 0440
{{- if include "dressipi-sidecar.hasRedisPassword" . }}
- name: dressipi-sidecar-redis
  secret:
    secretName: {{ include "dressipi-sidecar.redisSecret" . }}
    defaultMode: 0440
    items:
      - key: password
        path: password
{{- end }}
{{- end }}

{{/* The template of our own pods. */}}
{{- define "dressipi-sidecar.pod" -}}
metadata:
  labels:
    {{- include "dressipi-sidecar.labels" . | nindent 4 }}
    dressipi-sidecar: "true"
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with merge (include "dressipi-sidecar.annotations" . | fromYaml) .Values.podAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "dressipi-sidecar.fullname" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  securityContext: {{- include "dressipi-sidecar.podSecurityContext" . | nindent 4 }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - {{- include "dressipi-sidecar.container" . | nindent 6 }}
  volumes: {{- include "dressipi-sidecar.volumes" . | nindent 4 }}
  {{- if not (include "dressipi-sidecar.isRedb" .) }}
  topologySpreadConstraints:
    {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "dressipi-sidecar.selectorLabels" $ | nindent 10 }}
      matchLabelKeys: [pod-template-hash]
    {{- end }}
  {{- end }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
  {{- with index $.Values $key }}
  {{ $key }}: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
{{- end }}
