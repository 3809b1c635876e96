{{/* Settings of the servers. Every secret among them is the path of a file. */}}
{{- define "datavault.settings" -}}
DATAVAULT_ENVIRONMENT: production
DATAVAULT_HOME: /var/lib/datavault
DATAVAULT_POLICIES: /etc/datavault/policies
DATAVAULT_LISTEN: 0.0.0.0:8443
DATAVAULT_LISTEN_HEALTH: 0.0.0.0:8081
DATAVAULT_WORKERS: {{ .Values.workers | quote }}
DATAVAULT_ORIGIN: {{ .Values.log.origin }}
DATAVAULT_OUTSIDE_STORE: {{ .Values.log.outsideBucket | default "/outside" | quote }}
{{- if .Values.log.outsideCaConfigMap }}
DATAVAULT_OUTSIDE_STORE_CACERT: /run/datavault/outside-ca/ca.crt
{{- end }}
DATAVAULT_DATABASE_URL: {{ include "datavault.databaseUrl" (list . .Values.database.user) | quote }}
DATAVAULT_DATABASE_PASSWORD_FILE: /run/datavault/database/password
DATAVAULT_DATABASE_CONNECTIONS: {{ .Values.database.connections | quote }}
DATAVAULT_SERVER_CERTIFICATE: /run/datavault/server/tls.crt
DATAVAULT_SERVER_KEY: /run/datavault/server/tls.key
DATAVAULT_CLIENT_CA: /run/datavault/client-ca/ca.crt
DATAVAULT_KEYS: transit
VAULT_ADDR: {{ .Values.keys.address | quote }}
VAULT_CACERT: /run/datavault/keys-ca/ca.crt
DATAVAULT_TRANSIT_MOUNT: {{ .Values.keys.mount }}
DATAVAULT_TRANSIT_AUTH: {{ .Values.keys.auth }}
{{- with .Values.keys.namespace }}
VAULT_NAMESPACE: {{ . | quote }}
{{- end }}
{{- with .Values.keys.authMount }}
DATAVAULT_TRANSIT_AUTH_MOUNT: {{ . | quote }}
{{- end }}
{{- if eq .Values.keys.auth "kubernetes" }}
DATAVAULT_TRANSIT_ROLE: {{ .Values.keys.role }}
DATAVAULT_TRANSIT_JWT_FILE: /run/datavault/keys/token
{{- else }}
DATAVAULT_TRANSIT_ROLE_ID: {{ .Values.keys.roleId | quote }}
DATAVAULT_TRANSIT_SECRET_ID_FILE: /run/datavault/keys/secret-id
{{- end }}
{{- if .Values.metrics.enabled }}
DATAVAULT_METRICS: 0.0.0.0:{{ .Values.metrics.port }}
{{- end }}
{{- range $name, $value := merge .Values.settings .Values.log.outsideEnvironment }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end }}
