# Image of the steps that read and check data: ingest, validate.
#   docker build -f docker/data.Dockerfile -t posttrain-data:local .
# Build arguments: BASE, which brings Python 3.11 or newer, or an apt that does; STORE, the artifact
# store that is not a folder: s3, gcs or azure; PIP_INDEX_URL, PIP_EXTRA_INDEX_URL and
# PIP_FIND_LINKS as pip reads them (they stay in stages that are thrown away); VERSION and REVISION.
# Down to `libraries` the three files are one: on one base they share the layer of `step`.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS python
# hadolint ignore=DL3008  # the base's security updates are wanted, whatever their version
RUN command -v python3 || { apt-get update && \
    apt-get install --yes --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*; }

# What to install, apart: an edit elsewhere in pyproject.toml leaves the libraries' layers cached.
FROM python AS pins
WORKDIR /pins
COPY pyproject.toml constraints.txt ./
COPY locked locked/
ARG STORE
RUN python3 -c 'import os, tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
    extras = project["optional-dependencies"]; store = os.environ.get("STORE"); \
    print(*project["dependencies"], *extras["step"], *extras[store] if store else (), \
      sep="\n", file=open("step.txt", "w")); \
    print(*extras["data"], sep="\n", file=open("libraries.txt", "w"))'

# What every step needs. pip stays outside of the environment that is kept. Compiled on every core;
# libraries hold a file or two in the syntax of a newer Python, which is no failure.
FROM python AS step
# hadolint ignore=DL3008  # as above
RUN python3 -c 'import ensurepip' || { apt-get update && \
    apt-get install --yes --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/*; }
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_PROGRESS_BAR=off
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/venv
COPY --from=pins /pins/step.txt /pins/constraints.txt /pins/
COPY --from=pins /pins/locked /pins/locked/
RUN /opt/pip/bin/python3 /pins/locked/install.py --python /opt/venv/bin/python3 --no-compile \
      --file /pins/step.txt && \
    rm -rf /opt/venv/lib/python3*/site-packages/pandas/tests && \
    { /opt/venv/bin/python3 -m compileall -q -j 0 /opt/venv || true; }

# What this image's steps need: what is new goes to /added.
FROM step AS libraries
COPY --from=pins /pins/libraries.txt /pins/
RUN touch /pins/begun && \
    /opt/pip/bin/python3 /pins/locked/install.py --python /opt/venv/bin/python3 --no-compile \
      --file /pins/libraries.txt && \
    find /opt/venv -name '*.py' -cnewer /pins/begun > /pins/new.txt && \
    { /opt/venv/bin/python3 -m compileall -q -j 0 -i /pins/new.txt || true; } && \
    mkdir /added && find /opt/venv ! -type d -cnewer /pins/begun \
      -exec cp --parents --link --no-dereference --target-directory /added {} +

# Readable by any user, whatever the checkout's umask was.
FROM python AS code
WORKDIR /app
COPY data data/
COPY recipes recipes/
COPY constraints.txt ./
COPY steps steps/
COPY posttrain posttrain/
RUN chmod -R a+rX /app

FROM python
RUN groupadd --gid 10001 posttrain && \
    useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /tmp posttrain
COPY --from=step /opt/venv /opt/venv
COPY --from=libraries /added /
# HOME and USER serve any other uid too, and a root file system that is read-only.
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app ZENML_CUSTOM_SOURCE_ROOT=/app \
    PYTHONUNBUFFERED=1 HOME=/tmp USER=posttrain \
    ZENML_CONFIG_PATH=/tmp/zenml ZENML_ANALYTICS_OPT_IN=false \
    MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    MLFLOW_HTTP_REQUEST_MAX_RETRIES=2 MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR=1 \
    HF_HUB_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1 OMP_WAIT_POLICY=PASSIVE GIT_PYTHON_REFRESH=quiet
# hadolint ignore=DL3064  # TOKENIZERS_PARALLELISM is a switch; the linter sees TOKEN in it
ENV TOKENIZERS_PARALLELISM=false
WORKDIR /app
COPY --from=code /app /app
USER 10001:10001
ARG VERSION=unknown
ARG REVISION=unknown
ENV POSTTRAIN_REVISION=$REVISION
LABEL org.opencontainers.image.title="posttrain-data" \
      org.opencontainers.image.description="Steps that read and check data" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
ENTRYPOINT ["python3", "-m", "zenml.entrypoints.entrypoint"]
