# MLflow's server, with what compose.yaml puts behind it: PostgreSQL, an S3-compatible store, users.
# Build arguments: BASE; STORE, another store of artifacts: gcs or azure; PIP_INDEX_URL, PIP_EXTRA_INDEX_URL and PIP_FIND_LINKS as pip reads them
# (they stay in the stage that is thrown away); VERSION and REVISION for the labels.
# The base brings Python 3.11 or newer.
ARG BASE=python:3.11-slim-bookworm

# What to install, apart: an edit elsewhere in pyproject.toml leaves the libraries' layer cached.
FROM ${BASE} AS pins
WORKDIR /pins
COPY pyproject.toml constraints.txt ./
COPY locked locked/
ARG STORE
RUN python3 -c 'import os, tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
    extras = project["optional-dependencies"]; store = os.environ.get("STORE"); \
    print(*extras["server"], *extras[store] if store else (), sep="\n")' \
    > requirements.txt

FROM ${BASE} AS libraries
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ENV PIP_NO_CACHE_DIR=1
COPY --from=pins /pins/requirements.txt /pins/constraints.txt /pins/
COPY --from=pins /pins/locked /pins/locked/
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/venv && \
    /opt/pip/bin/python3 /pins/locked/install.py --python /opt/venv/bin/python3 \
      --file /pins/requirements.txt

FROM ${BASE}
RUN groupadd --gid 10001 posttrain && \
    useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /tmp posttrain
COPY --from=libraries /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp DO_NOT_TRACK=1 \
    MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    MLFLOW_AUTH_CONFIG_PATH=/app/auth.ini
WORKDIR /app
COPY docker/mlflow-auth.ini auth.ini
RUN chmod a+r auth.ini && install --directory --owner 10001 --group 10001 /users
USER 10001:10001
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="posttrain-mlflow" \
      org.opencontainers.image.description="MLflow's server behind a sign-in" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
ENTRYPOINT ["mlflow", "server", "--app-name", "basic-auth", "--host", "0.0.0.0", "--port", "5000"]
