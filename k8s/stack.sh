#!/usr/bin/env bash
# Registers ZenML's Kubernetes stack; run it again and nothing changes.
#
#   CONTEXT=my-cluster ARTIFACT_STORE=s3://bucket/zenml CONTAINER_REGISTRY=registry/team ./k8s/stack.sh
#
# The shell must be logged in to your ZenML server (`zenml login`), and kubectl know the context.
# Secrets go in by name (`zenml secret create`), never by value: MLFLOW_SECRET names one with the
# keys username and password.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${CONTEXT:?name of the kubectl context}"
: "${ARTIFACT_STORE:?s3://..., gs://... or az://... that steps can write to}"
: "${CONTAINER_REGISTRY:?where images are pushed}"
NAMESPACE=posttrain  # the manifests' own, and in the names that MLflow answers to
STACK=${STACK:-posttrain-k8s}
MLFLOW_URI=${MLFLOW_URI:-http://mlflow.$NAMESPACE.svc.cluster.local:5000}
MLFLOW_SECRET=${MLFLOW_SECRET:-mlflow}

case $ARTIFACT_STORE in
  s3://*) store=s3 ;;
  gs://*) store=gcp ;;
  az://* | abfs://*) store=azure ;;
  *) echo "ARTIFACT_STORE=$ARTIFACT_STORE: s3://, gs:// or az:// is wanted" >&2; exit 1 ;;
esac

# component KIND NAME FLAVOR [--key=value ...]: register it, or bring what is there up to date
component() {
  local kind=$1 name=$2 flavor=$3
  shift 3
  if zenml "$kind" describe "$name" >/dev/null 2>&1; then
    [ $# -eq 0 ] || zenml "$kind" update "$name" "$@"
  else
    zenml "$kind" register "$name" --flavor="$flavor" "$@"
  fi
}

# YAML to the JSON that ZenML's command line takes
json() { python -c 'import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))' <"$1"; }

component orchestrator "$STACK" kubernetes \
  --kubernetes_context="$CONTEXT" \
  --kubernetes_namespace="$NAMESPACE" \
  --service_account_name=orchestrator \
  --step_pod_service_account_name=step \
  --pass_zenml_token_as_secret=true \
  --skip_local_validations=true \
  --pod_settings="$(json k8s/step-pod.yaml)" \
  --orchestrator_pod_settings="$(json k8s/orchestrator-pod.yaml)" \
  --pod_failure_policy="$(json k8s/pod-failure-policy.yaml)" \
  --pod_stop_grace_period=300 \
  --ttl_seconds_after_finished=86400 \
  --concurrency_policy=Forbid \
  --successful_jobs_history_limit=3 \
  --failed_jobs_history_limit=5 \
  --starting_deadline_seconds=3600
component artifact-store "$STACK" "$store" --path="$ARTIFACT_STORE"
component container-registry "$STACK" default --uri="$CONTAINER_REGISTRY"
component image-builder "$STACK" local
component experiment-tracker posttrain_mlflow mlflow \
  --tracking_uri="$MLFLOW_URI" \
  --tracking_username="{{$MLFLOW_SECRET.username}}" \
  --tracking_password="{{$MLFLOW_SECRET.password}}"

if ! zenml stack describe "$STACK" >/dev/null 2>&1; then
  zenml stack register "$STACK" -o "$STACK" -a "$STACK" -c "$STACK" -i "$STACK" -e posttrain_mlflow
fi
zenml stack set "$STACK"
