# One OpenBao that unseals itself and, at its first start, makes the two logins of datavault and no root token.
# Production: three or five nodes, a seal of an HSM or a cloud KMS, an audit device.
ui           = false
api_addr     = "https://openbao:8200"
cluster_addr = "https://openbao:8201"

storage "raft" {
  path                   = "/data"
  node_id                = "openbao"
  performance_multiplier = 1
}

listener "tcp" {
  address         = "0.0.0.0:8200"
  cluster_address = "0.0.0.0:8201"
  tls_cert_file   = "/run/openbao-secrets/server.pem"
  tls_key_file    = "/run/openbao-secrets/server.key"
  tls_min_version = "tls13"
}

seal "static" {
  current_key_id = "compose-1"
  current_key    = "file:///run/openbao-secrets/unseal.key"
}

initialize "logins" {
  request "approle" {
    operation = "update"
    path      = "sys/auth/approle"
    data      = { type = "approle" }
  }

  # what `datavault keys init --role setup` prints
  request "setup-policy" {
    operation = "update"
    path      = "sys/policies/acl/datavault-setup"
    data = {
      policy = {
        eval_type   = "string"
        eval_source = "file"
        path        = "/run/openbao-secrets/setup-policy.hcl"
      }
    }
  }

  request "setup" {
    operation = "update"
    path      = "auth/approle/role/datavault-setup"
    data = {
      role_id                 = "datavault-setup"
      token_policies          = ["datavault-setup"]
      token_no_default_policy = true
      token_ttl               = "5m"
      token_max_ttl           = "5m"
    }
  }

  request "setup-secret-id" {
    operation = "update"
    path      = "auth/approle/role/datavault-setup/custom-secret-id"
    data = {
      secret_id = {
        eval_type   = "string"
        eval_source = "file"
        path        = "/run/openbao-secrets/setup-secret-id"
      }
    }
  }

  # `datavault keys init --apply` writes these policies; until then the role may do nothing
  request "replica" {
    operation = "update"
    path      = "auth/approle/role/datavault-replica"
    data = {
      role_id                 = "datavault-replica"
      token_policies          = ["datavault-replica", "datavault-operator"]
      token_no_default_policy = true
      token_ttl               = "20m"
      token_max_ttl           = "24h"
    }
  }

  request "replica-secret-id" {
    operation = "update"
    path      = "auth/approle/role/datavault-replica/custom-secret-id"
    data = {
      secret_id = {
        eval_type   = "string"
        eval_source = "file"
        path        = "/run/openbao-secrets/replica-secret-id"
      }
    }
  }
}
