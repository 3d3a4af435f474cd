{{- define "doorbell.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "doorbell.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: relay
{{- end -}}

{{- define "doorbell.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "doorbell.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "doorbell.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "doorbell.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{- define "doorbell.hasBudget" -}}
{{- $wanted := .Values.podDisruptionBudget.enabled -}}
{{- if or (eq $wanted true) (and (kindIs "invalid" $wanted) (gt (int .Values.replicaCount) 1)) -}}yes{{- end -}}
{{- end -}}

{{- define "doorbell.isOnce" -}}
{{- range .Values.config.outbox -}}{{- if eq (.delivery | default "") "exactly-once" -}}yes{{- end -}}{{- end -}}
{{- end -}}

{{/* A value of TOML: of a map an inline table, of a whole number one without a point. */}}
{{- define "doorbell.value" -}}
{{- if kindIs "map" . -}}
{ {{- range $i, $key := keys . | sortAlpha }}{{ if $i }}, {{ end }}{{ $key | toJson }} = {{ include "doorbell.value" (get $ $key) }}{{ end -}} }
{{- else if kindIs "slice" . -}}
[{{- range $i, $it := . }}{{ if $i }}, {{ end }}{{ include "doorbell.value" $it }}{{ end -}}]
{{- else if kindIs "float64" . -}}
{{ printf "%.0f" . }}
{{- else -}}
{{ . | toJson }}
{{- end -}}
{{- end -}}

{{- define "doorbell.section" -}}
{{- range $key := keys . | sortAlpha }}
{{ $key }} = {{ include "doorbell.value" (get $ $key) }}
{{- end }}
{{- end -}}

{{/* doorbell.toml: `config`, the files of the Secret, and what Kubernetes needs of the HTTP port. */}}
{{- define "doorbell.toml" -}}
{{- $config := deepCopy .Values.config -}}
{{- $keys := .Values.secretKeys -}}
{{- $folder := "/run/secrets/doorbell" -}}
{{- $name := include "doorbell.fullname" . -}}
{{- if and .Values.existingSecret $keys.databaseUrl -}}
{{- $_ := set $config.database "url" (dict "file" (printf "%s/%s" $folder $keys.databaseUrl)) -}}
{{- end -}}
{{- with $keys.kafkaPassword -}}
{{- $_ := set $config.kafka.properties "sasl.password" (dict "file" (printf "%s/%s" $folder .)) -}}
{{- end -}}
{{- with $keys.httpToken -}}
{{- $_ := set $config.http "token_file" (printf "%s/%s" $folder .) -}}
{{- end -}}
{{- $_ := set $config.http "listen" "0.0.0.0:8686" -}}
{{- if not $config.http.hosts -}}
{{- $space := .Release.Namespace -}}
{{- $_ := set $config.http "hosts" (printf "%s,%s.%s,%s.%s.svc,%s.%s.svc.cluster.local" $name $name $space $name $space $name $space) -}}
{{- end -}}
# Made of the chart's `config`.
{{- range $section := list "database" "kafka" "relay" "http" "telemetry" }}
{{- with get $config $section }}
[{{ $section }}]
{{- include "doorbell.section" . }}
{{- end }}
{{- end }}
{{- range $config.outbox }}
[[outbox]]
{{- include "doorbell.section" . }}
{{- end }}
{{- end -}}

{{/* What relay, migration and test have in common. */}}
{{- define "doorbell.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "doorbell.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
privileged: false
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Called with the root, the name of the ConfigMap, and that of the Secret. */}}
{{- define "doorbell.volumes" -}}
{{- $root := index . 0 -}}
- name: config
  configMap:
    name: {{ index . 1 }}
{{- with index . 2 }}
- name: secrets
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with $root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "doorbell.mounts" -}}
{{- $root := index . 0 -}}
- name: config
  mountPath: /etc/doorbell
  readOnly: true
{{- if index . 1 }}
- name: secrets
  mountPath: /run/secrets/doorbell
  readOnly: true
{{- end }}
{{- with $root.Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Values that contradict each other: one line each. */}}
{{- define "doorbell.validate" -}}
{{- $values := .Values -}}
{{- $url := $values.config.database.url -}}
{{- if and (eq $values.podDisruptionBudget.enabled true) (lt (int $values.replicaCount) 2) -}}
{{- fail "podDisruptionBudget.enabled needs a replicaCount of 2 or more: with one replica it would block every drain of its node. Set replicaCount=2, or podDisruptionBudget.enabled=false" -}}
{{- end -}}
{{- if and $values.existingSecret $values.secretKeys.databaseUrl $url -}}
{{- fail "the database URL is given twice, in config.database.url and by existingSecret: remove config.database.url, or set secretKeys.databaseUrl to \"\"" -}}
{{- end -}}
{{- if not (or (and $values.existingSecret $values.secretKeys.databaseUrl) $url) -}}
{{- fail "no database URL: set existingSecret to a Secret that has it under the key secretKeys.databaseUrl, or config.database.url to one without a password" -}}
{{- end -}}
{{- if and (kindIs "string" $url) (regexMatch "//[^/@]*:[^/@]+@" $url) -}}
{{- fail "config.database.url has a password, which all who may read ConfigMaps could read: put the URL into a Secret, and name that in existingSecret" -}}
{{- end -}}
{{- if not $values.config.kafka.brokers -}}
{{- fail "no brokers: set config.kafka.brokers to host:port, or to several separated by commas" -}}
{{- end -}}
{{- if and (not $values.existingSecret) (or $values.secretKeys.kafkaPassword $values.secretKeys.httpToken) -}}
{{- fail "secretKeys.kafkaPassword and secretKeys.httpToken name keys of existingSecret, which is empty: set it" -}}
{{- end -}}
{{- if and $values.secretKeys.kafkaPassword (hasKey $values.config.kafka.properties "sasl.password") -}}
{{- fail "sasl.password is given twice, in config.kafka.properties and by secretKeys.kafkaPassword: remove one of them" -}}
{{- end -}}
{{- if hasKey $values.config.http "listen" -}}
{{- fail "config.http.listen is the chart's own, as probes and Service need it: remove it, and set service.port for another port of the Service" -}}
{{- end -}}
{{- $stop := $values.config.relay.stop_timeout | default "30s" -}}
{{- if and (regexMatch "^[0-9]+(s|m)$" $stop) (le (int $values.terminationGracePeriodSeconds) (mul (regexFind "^[0-9]+" $stop | int) (ternary 60 1 (hasSuffix "m" $stop)))) -}}
{{- fail (printf "terminationGracePeriodSeconds is %d, not longer than config.relay.stop_timeout (%s): Kubernetes would kill a relay that is finishing its rows" (int $values.terminationGracePeriodSeconds) $stop) -}}
{{- end -}}
{{- if and (not $values.networkPolicy.enabled) (or $values.networkPolicy.ingressFrom $values.networkPolicy.egressTo) -}}
{{- fail "networkPolicy.ingressFrom and networkPolicy.egressTo restrict nothing without networkPolicy.enabled: set it to true, or remove them" -}}
{{- end -}}
{{- if and $values.serviceMonitor.enabled $values.networkPolicy.enabled (not $values.networkPolicy.ingressFrom) -}}
{{- fail "serviceMonitor.enabled needs networkPolicy.ingressFrom to name Prometheus: the policy would keep it from the relays" -}}
{{- end -}}
{{- $seen := dict -}}
{{- range $values.config.outbox -}}
{{- $table := .table | default "outbox" -}}
{{- if hasKey $seen $table -}}
{{- fail (printf "config.outbox has the table %s twice: each outbox has one entry" $table) -}}
{{- end -}}
{{- $_ := set $seen $table true -}}
{{- if and (ne (.delivery | default "at-least-once") "exactly-once") (or .transactional_id .receipts) -}}
{{- fail (printf "config.outbox: transactional_id and receipts of the table %s belong to delivery: exactly-once, which it does not have" $table) -}}
{{- end -}}
{{- end -}}
{{- if and (include "doorbell.isOnce" .) (hasKey $values.config.kafka.properties "sasl.username") (not $values.transactionsGranted) -}}
{{- fail (printf "delivery: exactly-once needs WRITE and DESCRIBE on the transactional id for the Kafka user %s (docs/security.md has the commands): grant them, then set transactionsGranted=true" (index $values.config.kafka.properties "sasl.username")) -}}
{{- end -}}
{{- end -}}
