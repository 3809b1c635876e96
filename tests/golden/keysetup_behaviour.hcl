# datavault-replica-behaviour: role replica, key classes: behaviour

# wraps new data keys
path "transit/encrypt/datavault-behaviour" {
  capabilities = ["update"]
}

# unwraps data keys
path "transit/decrypt/datavault-behaviour" {
  capabilities = ["update"]
}

# wraps the keys of a new tenant
path "transit/encrypt/datavault-lookup" {
  capabilities = ["update"]
}
path "transit/encrypt/datavault-pseudonym" {
  capabilities = ["update"]
}
path "transit/encrypt/datavault-index" {
  capabilities = ["update"]
}

# unwraps the keys of tenants: lookup of customers, pseudonyms, blind indexes
path "transit/decrypt/datavault-lookup" {
  capabilities = ["update"]
}
path "transit/decrypt/datavault-pseudonym" {
  capabilities = ["update"]
}
path "transit/decrypt/datavault-index" {
  capabilities = ["update"]
}

# signs checkpoints of the audit log
path "transit/sign/datavault-log" {
  capabilities = ["update"]
}

# signs receipts of erasure
path "transit/sign/datavault-receipt" {
  capabilities = ["update"]
}

# versions, and the public half of signing keys
path "transit/keys/datavault-behaviour" {
  capabilities = ["read"]
}
path "transit/keys/datavault-lookup" {
  capabilities = ["read"]
}
path "transit/keys/datavault-pseudonym" {
  capabilities = ["read"]
}
path "transit/keys/datavault-index" {
  capabilities = ["read"]
}
path "transit/keys/datavault-log" {
  capabilities = ["read"]
}
path "transit/keys/datavault-receipt" {
  capabilities = ["read"]
}

# health, how long the token lives, and whether a refusal is of the token or of a key
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

# renewal at two thirds of the lease
path "auth/token/renew-self" {
  capabilities = ["update"]
}

# gives the token back: one that was got by logging in, at the end of the process
path "auth/token/revoke-self" {
  capabilities = ["update"]
}

# `datavault doctor` compares the token with this table
path "sys/capabilities-self" {
  capabilities = ["update"]
}
