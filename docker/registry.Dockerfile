# Image of the steps that decide what is kept: register, promote.
#   docker build -f docker/registry.Dockerfile -t posttrain-registry:local .
# Build arguments: BASE; PIP_INDEX_URL, PIP_EXTRA_INDEX_URL and PIP_FIND_LINKS as pip reads them
# (they stay in the stage that is thrown away); VERSION and REVISION for the labels.
# The base brings Python 3.11 or newer.
ARG BASE=python:3.11-slim-bookworm

# What to install, apart: an edit elsewhere in pyproject.toml leaves the libraries' layer cached.
FROM ${BASE} AS pins
WORKDIR /pins
COPY pyproject.toml constraints.txt ./
RUN python3 -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
    extras = project["optional-dependencies"]; \
    print(*project["dependencies"], *extras["registry"], *extras["step"], sep="\n")' \
    > requirements.txt

FROM ${BASE} AS libraries
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
COPY --from=pins /pins/requirements.txt /pins/constraints.txt /pins/
RUN python3 -m venv /opt/venv && \
    /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --progress-bar off \
      --requirement /pins/requirements.txt --constraint /pins/constraints.txt && \
    /opt/venv/bin/pip uninstall --yes pip

# Readable by any user, whatever the checkout's umask was.
FROM ${BASE} AS code
WORKDIR /app
COPY data data/
COPY recipes recipes/
COPY constraints.txt ./
COPY steps steps/
COPY posttrain posttrain/
RUN chmod -R a+rX /app

FROM ${BASE}
RUN groupadd --gid 10001 posttrain && \
    useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /tmp posttrain
COPY --from=libraries /opt/venv /opt/venv
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
LABEL org.opencontainers.image.title="posttrain-registry" \
      org.opencontainers.image.description="Steps that register and promote a version" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
ENTRYPOINT ["python3", "-m", "zenml.entrypoints.entrypoint"]
