{{/* The name of everything: the release's, which says once what chart it is. */}}
{{- define "events-db.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What tells the pods of this release from all others. */}}
{{- define "events-db.selector" -}}
app.kubernetes.io/name: events-db
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "events-db.labels" -}}
{{ include "events-db.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* The same for the NATS beside it. */}}
{{- define "events-db.natsSelector" -}}
app.kubernetes.io/name: events-db-nats
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "events-db.natsLabels" -}}
{{ include "events-db.natsSelector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* A probe of a path. */}}
{{- define "events-db.get" -}}
path: {{ .path }}
port: http
{{- if .root.Values.tls.enabled }}
scheme: HTTPS
{{- end }}
{{- end -}}
