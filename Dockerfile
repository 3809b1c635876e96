# hadolint global ignore=DL3059
# (RUN in its exec form starts no shell, and so cannot be joined by one)
#
# datavault: the service and its command line.
#
#   docker build --tag datavault:0.1.0 .
#
# Everything that is installed comes from deploy/requirements.txt: exact versions with the hashes of their
# wheels (`make lock` writes it). The read path is compiled (docs/adr/0027), in a stage whose image has a C compiler.
# To pin the base images by digest, or to take them from a mirror (both of one minor version of Python):
#   docker build --build-arg PYTHON_IMAGE=mirror.bank.example/python@sha256:... \
#                --build-arg BUILD_IMAGE=mirror.bank.example/python@sha256:... .
ARG PYTHON_IMAGE=python:3.13-slim-trixie
# the same Python with a C compiler; nothing of it gets into the image
ARG BUILD_IMAGE=python:3.13-trixie

FROM ${BUILD_IMAGE} AS build
# PYTHONPATH: what builds stands beside the folder that gets into the image. --build-arg DATAVAULT_COMPILE=0 for
# an image of the Python sources alone
ARG DATAVAULT_COMPILE=1
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONPATH=/opt/build-tools
WORKDIR /source

# without pip of its own: nothing can be installed into it later
RUN ["python", "-m", "venv", "--without-pip", "/opt/datavault"]

# what changes seldom first, so that a change of the source alone does not fetch the dependencies anew
COPY deploy/requirements.txt deploy/requirements-build.txt ./
RUN ["python", "-m", "pip", "--python", "/opt/datavault/bin/python", "install", \
     "--require-hashes", "--only-binary", ":all:", "--requirement", "requirements.txt"]
RUN ["python", "-m", "pip", "--python", "/opt/datavault/bin/python", "install", "--target", "/opt/build-tools", \
     "--require-hashes", "--only-binary", ":all:", "--requirement", "requirements-build.txt"]

COPY pyproject.toml setup.py README.md LICENSE ./
COPY vault vault
# by the Python of the service, so that the compiler sees the types of its dependencies
RUN ["python", "-m", "pip", "--python", "/opt/datavault/bin/python", "wheel", \
     "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", "/wheels", "."]
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
# what was compiled by one minor version of Python does not load in another
RUN ["/opt/datavault/bin/python", "-c", "import vault.disclosure"]

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
