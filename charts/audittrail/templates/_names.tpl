{{/*
Names do not depend on the release: an operator serves the whole cluster, so a second release must
fail on the first one's objects and not run beside it.
*/}}
{{- define "audittrail.operator" -}}audittrail-operator{{- end }}
{{- define "audittrail.reviews" -}}audittrail-collector-reviews{{- end }}

{{- define "audittrail.labels" -}}
app.kubernetes.io/name: audittrail-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "audittrail.selector" -}}
app.kubernetes.io/name: audittrail-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Repository and tag of an image: (list $ .Values.images.operator) */}}
{{- define "audittrail.image" -}}
{{- $root := index . 0 }}{{- $image := index . 1 -}}
{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end }}
