{{- define "dressipi-sidecar.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "dressipi-sidecar.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "dressipi-sidecar.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "dressipi-sidecar.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "dressipi-sidecar.selectorLabels" -}}
app.kubernetes.io/name: {{ include "dressipi-sidecar.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "dressipi-sidecar.labels" -}}
{{ include "dressipi-sidecar.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* What the pods with a sidecar in them carry: ours, or an app's own. */}}
{{- define "dressipi-sidecar.podSelector" -}}
{{- if .Values.workload }}{{ include "dressipi-sidecar.selectorLabels" . }}
{{ end -}}
dressipi-sidecar: "true"
{{- end }}

{{- define "dressipi-sidecar.secret" -}}
{{- default (include "dressipi-sidecar.fullname" .) .Values.secrets.existing }}
{{- end }}

{{- define "dressipi-sidecar.redisSecret" -}}
{{- default (printf "%s-redis" (include "dressipi-sidecar.fullname" .)) .Values.secrets.redis.existing }}
{{- end }}

{{/* The port of an address, such as 0.0.0.0:8080. */}}
{{- define "dressipi-sidecar.port" -}}
{{- splitList ":" . | last }}
{{- end }}
