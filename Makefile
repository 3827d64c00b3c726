# Everything a person types. `make help` lists it.
PYTHON ?= python3
STATE := .posttrain
BIN := .venv/bin
PIPELINE ?= post_training
CONFIG ?= zenml_config.yaml
# Extras of the laptop's environment: one process runs every step.
EXTRAS := data,train,eval,registry,signing,pipeline,schedule,k8s,dev
.DEFAULT_GOAL := help
.PHONY: help setup demo dashboard clean schema lock sbom sbom-images profile
.PHONY: test test-all test-faults test-docker check checkov bench bench-check bench-ppo bench-gpu
.PHONY: images pin stack-docker demo-docker bench-images
.PHONY: image-data image-train image-registry

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' Makefile

setup: $(STATE)/env  ## Environment in .venv/, embedded stack in .posttrain/

# Threads wait for one another longer than they compute in a model of a million weights.
ifneq ($(filter zenml_config.yaml recipes/tiny_%,$(CONFIG)),)
demo: export POSTTRAIN_THREADS ?= 1
endif
demo: setup  ## Train the sample model through every stage and promote it
	@. $(STATE)/env && zenml pipeline run pipelines.$(PIPELINE).$(PIPELINE) -c $(CONFIG) -s posttrain
	@. $(STATE)/env && posttrain report

# From the environment, where set: BASE (CPU=1 names one without CUDA), STORE, PIP_INDEX_URL,
# PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS. BUILD_FLAGS goes to `docker build` as it is.
TAG ?= local
SLIM := python:3.11-slim-bookworm
IMAGES := image-data image-train image-registry
ARGUMENTS := BASE STORE PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS VERSION REVISION
images: $(IMAGES)  ## Build the images of the steps; CPU=1: on a base without CUDA

$(IMAGES): image-%:
	@VERSION=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml); \
	REVISION=$$(git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || echo unknown); \
	export VERSION REVISION $(if $(CPU),BASE=$${BASE:-$(SLIM)}) $(if $(STORE),STORE=$(STORE)); \
	docker build --file docker/$*.Dockerfile --tag posttrain-$*:$(TAG) $(BUILD_FLAGS) \
	  $(foreach name,$(ARGUMENTS),--build-arg $(name)) .

pin: setup  ## Digests of the base images, beside their tags
	@. $(STATE)/env && posttrain pin-images

stack-docker: setup  ## Register the stack of containers; GPUS=all, NETWORK=name
	@. $(STATE)/env && posttrain stack docker --state $(STATE) \
	  $(if $(GPUS),--gpus $(GPUS)) $(if $(NETWORK),--network $(NETWORK)) \
	  $(foreach folder,$(MOUNTS),--mount $(folder))

# umask: what root's own part of a run writes, the containers' group may write too.
demo-docker: images stack-docker  ## The demo, every step in a container of its own
	@docker container prune --force --filter label=posttrain.stack >/dev/null
	@umask 002 && . $(STATE)/env && \
	  zenml pipeline run pipelines.$(PIPELINE).$(PIPELINE) -c $(CONFIG) -s posttrain_docker
	@. $(STATE)/env && posttrain report

test-docker: setup  ## The containers' test; as root on Debian it starts an engine of its own
	@. $(STATE)/env && .ci/docker

bench-images: setup  ## Sizes and build times of the images
	@. $(STATE)/env && python -m benchmarks.images -- $(BUILD_FLAGS)

# Two files at a time.
PYTEST := pytest -q -n 2 --dist loadfile
test: setup  ## Tests, without the slow ones
	@. $(STATE)/env && $(PYTEST) -m "not slow"

test-faults: setup  ## Faults injected at full count, and a table (an hour); FAULTS=path for some
	@. $(STATE)/env && POSTTRAIN_TEST_FAULTS=full \
	  POSTTRAIN_TEST_FAULTS_RESULTS=benchmarks/results/faults.json \
	  $(PYTEST) --no-loadscope-reorder -m fault $(FAULTS)

# The containers' test has a target and a time limit of its own. Files go by their names: by their
# number of tests, as xdist would have it, the longest runs came last, one beside an idle core.
test-all: test  ## Every test but test-docker: browser, servers, the demo with its figures
	@$(MAKE) --silent checkov || echo "NO CHECKOV: pip failed; its tests will skip" >&2
	@. $(STATE)/env && POSTTRAIN_TEST_FAULTS=few $(PYTEST) --no-loadscope-reorder \
	  -m "slow or fault" --ignore tests/integration/test_docker.py

check: setup  ## Lint, types, layers, licences of what is installed
	@. $(STATE)/env && ruff check . && ruff format --check . && mypy && lint-imports && \
	  posttrain licences

checkov: $(STATE)/checkov/ready  ## The security linter of k8s/, in an environment of its own

dashboard: setup  ## ZenML, MLflow and the review page on loopback; Ctrl-C ends all
	@. $(STATE)/env && posttrain dashboard

schema: setup  ## JSON Schema of the recipe, for editors
	@. $(STATE)/env && posttrain schema --out recipes/recipe.schema.json

bench: setup  ## Every stage against what people use today (an hour)
	@. $(STATE)/env && nice -n 5 python -m benchmarks.bench

bench-check: setup  ## The same against the committed results; fails where a ratio fell by a fifth
	@. $(STATE)/env && nice -n 5 python -m benchmarks.bench --check

bench-ppo: setup  ## Our PPO beside TRL's and a tutorial's (an hour; Linux)
	@. $(STATE)/env && nice -n 5 python -m benchmarks.ppo

bench-gpu: setup  ## Tokens/s, memory and the estimate's error on a GPU of 80 GB
	@. $(STATE)/env && python -m benchmarks.gpu

lock:  ## Write locked/hashes.txt anew, after a pin moved
	@$(PYTHON) -m venv $(STATE)/lock && $(STATE)/lock/bin/pip install --quiet pip-tools==7.6.2
	@$(STATE)/lock/bin/python locked/make.py

sbom-images: setup  ## Bill of materials of each image that was built, Debian's packages in it
	@. $(STATE)/env && for image in $(IMAGES:image-%=posttrain-%); do \
	  docker run --rm --interactive --network none --entrypoint python3 $$image:$(TAG) - \
	    <posttrain/installed.py >$(STATE)/$$image.json && \
	  posttrain sbom --packages $(STATE)/$$image.json --name $$image --release $(TAG) \
	    --out $(STATE)/$$image.cdx.json || exit 1; done

sbom: setup  ## Bill of materials of this environment, CycloneDX
	@. $(STATE)/env && posttrain sbom --out $(STATE)/sbom.cdx.json

profile: setup  ## Flame graph of one stage: make profile STAGE=sft
	@. $(STATE)/env && python -m benchmarks.stage_profile $(STAGE)

clean:  ## Remove runs, databases and caches; .venv stays
	rm -rf $(STATE)

# Only files that locked/hashes.txt names; pip finds torch's CPU build where an index offers it.
.venv/ready: pyproject.toml constraints.txt locked/hashes.txt locked/install.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $$($(PYTHON) --version) is too old; name 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "make: $(PYTHON) has no venv; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "Installing into .venv (about 2 GB, minutes on a fresh machine) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python locked/install.py --extras $(EXTRAS)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Its pins are not ours.
$(STATE)/checkov/ready:
	@$(PYTHON) -m venv $(STATE)/checkov
	@$(STATE)/checkov/bin/pip install --quiet --disable-pip-version-check checkov==3.3.30
	@touch $@

# Put together in .venv: steps in containers write to the state, and this is run here. A name of its
# own: two makes may be at it.
$(STATE)/env: .venv/ready Makefile
	@mkdir -p $(STATE)
	@new=.venv/env.$$$$ && { \
	  echo '# Written by make; `. .posttrain/env` points ZenML and MLflow at this checkout.'; \
	  echo 'export PATH="$(CURDIR)/.venv/bin:$$PATH"'; \
	  echo 'export ZENML_CONFIG_PATH="$(CURDIR)/$(STATE)/zenml"'; \
	  echo 'export ZENML_ANALYTICS_OPT_IN=false ZENML_DISABLE_INTERACTIVE_INPUT=true'; \
	  echo 'export ZENML_LOGGING_VERBOSITY=$${ZENML_LOGGING_VERBOSITY:-INFO}'; \
	  echo 'export MLFLOW_TRACKING_URI="sqlite:///$(CURDIR)/$(STATE)/mlflow.db"'; \
	  echo 'export MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false'; \
	  echo 'export MLFLOW_HTTP_REQUEST_MAX_RETRIES=2 MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR=1'; \
	  echo 'export POSTTRAIN_WORK="$(CURDIR)/$(STATE)/work" POSTTRAIN_CACHE="$(CURDIR)/$(STATE)/cache"'; \
	  echo 'export POSTTRAIN_CHECKPOINTS="$(CURDIR)/$(STATE)/checkpoints"'; \
	  echo 'export TOKENIZERS_PARALLELISM=false HF_HUB_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1'; \
	  echo 'export MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR=false HF_UPDATE_DOWNLOAD_COUNTS=0'; \
	  echo 'export OMP_WAIT_POLICY=PASSIVE'; \
	} > $$new && . $$new && $(BIN)/posttrain stack embedded --state $(STATE) && mv $$new $@ || \
	  { rm -f $$new; exit 1; }
