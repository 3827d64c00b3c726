#!/usr/bin/env bash
# A recipe's run file for the cluster, on standard output: images of your registry, and GPU pods that
# may start again. With CRON, a schedule of the name NAME (the recipe's, where none is given), whose
# GPU pods wait behind those of runs by hand. CPU=1: no step needs a GPU.
#
#   IMAGES=registry/team TAG=0.1.0 ./k8s/run-file.sh recipes/qwen3_4b_post_training.yaml > run.yaml
set -euo pipefail

: "${IMAGES:?where images are pulled from, as CONTAINER_REGISTRY of stack.sh}"
: "${TAG:?tag of the images}"
recipe=$(realpath "${1:?a run file}")
cd "$(dirname "$0")/.."

exec python -m cli.cluster_file "$recipe" --images="$IMAGES" --tag="$TAG" \
  ${CPU:+--cpu} ${CRON:+--cron="$CRON"} ${NAME:+--name="$NAME"}
