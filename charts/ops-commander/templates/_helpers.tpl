{{- define "ops-commander.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{/* At most 52 characters: "-metrics" and the hashes of pods still fit into 63. */}}
{{- define "ops-commander.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "ops-commander.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "ops-commander.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* Names outside the release's namespace carry it: releases in two namespaces may have the same name. */}}
{{- define "ops-commander.clusterName" -}}
{{ include "ops-commander.fullname" . }}.{{ .Release.Namespace }}
{{- end }}

{{- define "ops-commander.selectorLabels" -}}
app.kubernetes.io/name: {{ include "ops-commander.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end }}

{{/* Name of a shard's objects, from the list of the root and the shard; that of the default shard is "". */}}
{{- define "ops-commander.shardName" -}}
{{- $fullname := include "ops-commander.fullname" (first .) -}}
{{- $name := join "-" (compact (list $fullname (last .))) -}}
{{- if gt (len $name) 52 -}}
{{- fail (printf "shards has %q: %q has more than 52 characters, expected a shorter name" (last .) $name) -}}
{{- end -}}
{{ $name }}
{{- end }}

{{/* Labels of a shard's pods. No other shard's selector matches them: a pod of two disruption budgets is never evicted. */}}
{{- define "ops-commander.shardLabels" -}}
{{- if last . -}}
{{- include "ops-commander.selectorLabels" (first .) | fromYaml | merge (dict
  "app.kubernetes.io/component" "shard" "ops-commander.dev/shard" (last .)) | toYaml -}}
{{- else -}}
{{- include "ops-commander.selectorLabels" (first .) -}}
{{- end -}}
{{- end }}

{{/* Selects the pods, or the Services, of all shards. */}}
{{- define "ops-commander.allShards" -}}
matchLabels:
{{- if .Values.shards }}
  {{- omit (include "ops-commander.selectorLabels" . | fromYaml) "app.kubernetes.io/component" | toYaml | nindent 2 }}
matchExpressions:
  - key: app.kubernetes.io/component
    operator: In
    values: [controller, shard]
{{- else }}
  {{- include "ops-commander.selectorLabels" . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What a shard serves. Each rollout is of one shard, whatever its label says: the default one has all the rest. */}}
{{- define "ops-commander.shardSelector" -}}
{{- with last . -}}
ops-commander.dev/shard={{ . }}
{{- else -}}
{{- with (first .).Values.shards -}}
ops-commander.dev/shard notin ({{ join "," . }})
{{- end -}}
{{- end -}}
{{- end }}

{{- define "ops-commander.labels" -}}
{{- $labels := dict
  "app.kubernetes.io/name" (include "ops-commander.name" .)
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" (.Chart.AppVersion | replace "+" "_")
  "app.kubernetes.io/part-of" "ops-commander"
  "app.kubernetes.io/managed-by" .Release.Service
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") -}}
{{- toYaml (merge $labels .Values.commonLabels) -}}
{{- end }}

{{- define "ops-commander.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end }}

{{- define "ops-commander.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "ops-commander.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end }}

{{- define "ops-commander.leaseName" -}}
{{- $lease := default (include "ops-commander.fullname" (first .)) (first .).Values.leaderElection.leaseName -}}
{{ join "-" (compact (list $lease (last .))) }}
{{- end }}

{{/* The source of the volume with prometheus.yaml; empty where a URL is enough. */}}
{{- define "ops-commander.prometheusVolume" -}}
{{- with .Values.prometheus -}}
{{- if and .config .existingSecret -}}
{{- fail "prometheus.config and prometheus.existingSecret are both set: expected one of them" -}}
{{- else if .existingSecret -}}
secret:
  secretName: {{ .existingSecret }}
  defaultMode: 0440
{{- else if .config -}}
configMap:
  name: {{ include "ops-commander.fullname" $ }}-prometheus
{{- end -}}
{{- end -}}
{{- end }}

{{/* What the operator may do to the things it works on, cluster-wide or in each watched namespace. */}}
{{- define "ops-commander.rules" -}}
- apiGroups: [ops-commander.dev]
  resources: [modelrollouts]
  verbs: [get, list, watch, create, patch] # action plans create some
- apiGroups: [ops-commander.dev]
  resources: [modelrollouts/status]
  verbs: [get, patch]
- apiGroups: [ops-commander.dev]
  resources: [modelrollouts/finalizers] # owner references that block a deletion ask for it
  verbs: [update]
- apiGroups: [ops-commander.dev]
  resources: [rolloutpolicies, votes]
  verbs: [get, list, watch]
- apiGroups: [ops-commander.dev]
  resources: [votes/status]
  verbs: [patch]
- apiGroups: [ops-commander.dev]
  resources: [actionplans]
  verbs: [get, list, watch]
- apiGroups: [ops-commander.dev]
  resources: [actionplans/status]
  verbs: [get, patch]
- apiGroups: [""]
  resources: [podtemplates] # tests that a plan names, as ranker-smoke
  verbs: [get]
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs] # tests of a candidate before any traffic
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [pods/log] # what those tests have said, kept as evidence
  verbs: [get]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{- define "ops-commander.subject" -}}
- kind: ServiceAccount
  name: {{ include "ops-commander.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{/* One egress rule from {ports, to} and the protocols. */}}
{{- define "ops-commander.egress" -}}
- ports:
  {{- range $port := .rule.ports }}
  {{- range $protocol := $.protocols }}
    - port: {{ $port }}
      protocol: {{ $protocol }}
  {{- end }}
  {{- end }}
  {{- with .rule.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
