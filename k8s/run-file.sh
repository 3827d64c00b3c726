#!/usr/bin/env bash
# A recipe's run file for the cluster, on standard output: images of your registry, and GPU pods that
# may start again. With CRON, a schedule of the name NAME (the recipe's, where none is given), whose
# GPU pods wait behind those of runs by hand.
#
#   IMAGES=registry/team TAG=0.1.0 ./k8s/run-file.sh recipes/qwen3_4b_post_training.yaml > run.yaml
set -euo pipefail

: "${IMAGES:?where images are pulled from, as CONTAINER_REGISTRY of stack.sh}"
: "${TAG:?tag of the images}"
recipe=${1:?a run file}

class=posttrain-interactive
[ -z "${CRON:-}" ] || class=posttrain-scheduled
sed -E \
  -e "s#posttrain-(data|train|registry):local#$IMAGES/posttrain-\1:$TAG#" \
  -e 's#retry: &retry null.*#retry: \&retry {max_retries: 2}#' \
  -e "s#priority_class_name: posttrain-interactive#priority_class_name: $class#" \
  "$recipe"
if [ -n "${CRON:-}" ]; then
  echo "schedule: {name: ${NAME:-$(basename "$recipe" .yaml)}, cron_expression: \"$CRON\"}"
fi
