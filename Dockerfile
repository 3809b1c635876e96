# hadolint global ignore=DL3059
# (RUN in its exec form starts no shell, and so cannot be joined by one)
#
# datavault: the service and its command line.
#
#   docker build --tag datavault:0.1.0 .
#
# Everything that is installed comes from deploy/requirements.txt: exact versions with the hashes of their
# wheels (`make lock` writes it). To pin the base image by digest, or to take it from a mirror:
#   docker build --build-arg PYTHON_IMAGE=mirror.bank.example/python@sha256:... .
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /source

# without pip of its own: nothing can be installed into it later
RUN ["python", "-m", "venv", "--without-pip", "/opt/datavault"]

# what changes seldom first, so that a change of the source alone does not fetch the dependencies anew
COPY deploy/requirements.txt deploy/requirements-build.txt ./
RUN ["python", "-m", "pip", "--python", "/opt/datavault/bin/python", "install", \
     "--require-hashes", "--only-binary", ":all:", "--requirement", "requirements.txt"]
RUN ["python", "-m", "pip", "install", \
     "--require-hashes", "--only-binary", ":all:", "--requirement", "requirements-build.txt"]

COPY pyproject.toml README.md LICENSE ./
COPY vault vault
RUN ["python", "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", "/wheels", "."]
RUN ["python", "-m", "pip", "--python", "/opt/datavault/bin/python", "install", \
     "--no-deps", "--no-index", "--find-links", "/wheels", "datavault"]


FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="datavault" \
      org.opencontainers.image.description="Customer attributes encrypted field by field, disclosed by purpose and consent, every access in a tamper-evident log" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# the number is fixed: volumes and Kubernetes' runAsUser name it
RUN ["groupadd", "--gid", "10001", "datavault"]
RUN ["useradd", "--uid", "10001", "--gid", "10001", "--no-create-home", \
     "--home-dir", "/var/lib/datavault", "--shell", "/usr/sbin/nologin", "datavault"]
# a volume that is made from it belongs to the service from the start
RUN ["install", "--directory", "--mode", "0700", "--owner", "datavault", "--group", "datavault", "/var/lib/datavault"]

COPY --from=build /opt/datavault /opt/datavault

ENV PATH=/opt/datavault/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DATAVAULT_HOME=/var/lib/datavault \
    DATAVAULT_POLICIES=/etc/datavault/policies \
    DATAVAULT_LISTEN=0.0.0.0:8443

USER 10001:10001
WORKDIR /var/lib/datavault
VOLUME ["/var/lib/datavault"]
# 8443 gRPC with mTLS. The health port (8081) is on loopback unless DATAVAULT_LISTEN_HEALTH says otherwise.
EXPOSE 8443
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["datavault", "health"]
ENTRYPOINT ["datavault"]
CMD ["serve"]
