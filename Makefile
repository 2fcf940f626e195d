# Development and CI, on a machine with git, make and python3. What is built is kept in ~/.cache/ops-commander
# (OPS_COMMANDER_CACHE).
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash

export OPS_COMMANDER_STARTED := $(shell date +%s)
PYTHON := .venv/bin/python
CLUSTER := $(PYTHON) -m hack.cluster
LOCK := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
STAGES := lint types contracts generated unit integration e2e

.PHONY: help setup demo demo-down test $(STAGES) bench bench-churn bench-felt bench-shards tools binaries cluster image lock format generate install-manifest

help: ## this text
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/ready ## make .venv from requirements-dev.lock

.venv/ready: requirements-dev.lock pyproject.toml hack/setup.sh hack/uv.lock
	@hack/setup.sh

demo: setup ## the main job: a cluster, one good version shipped, one bad version thrown back
	@$(PYTHON) -m hack.demo.story

demo-down: setup ## remove the cluster of the demo, processes included
	@$(CLUSTER) down

test: setup ## all that CI runs: lint types contracts generated unit integration e2e
	@$(PYTHON) -m hack.stages $(STAGES)

lint: setup ## style of the code (ruff)
	@.venv/bin/ruff check operator tests hack
	@.venv/bin/ruff format --check operator tests hack

types: setup ## types, strictly (mypy)
	@.venv/bin/mypy -p ops_commander
	@.venv/bin/mypy hack
	@.venv/bin/mypy tests

contracts: setup ## which package may import which (import-linter)
	@.venv/bin/lint-imports

generated: tools ## CRDs, schemas, reference and install.yaml are as generated
	@.venv/bin/ops-commander crd --check
	@$(PYTHON) -m hack.render all --check

unit: tools ## unit tests
	@$(PYTHON) -m pytest tests/unit

integration: binaries ## tests with a real kube-apiserver, a real Prometheus and a real MLflow
	@$(PYTHON) -m pytest tests/integration

e2e: setup ## tests in the kind cluster; KEEP=1 keeps the cluster
	@$(PYTHON) -m hack.stages --e2e $(if $(KEEP),--keep)

bench: setup ## speed and cost of the operator; SIZES="1 10 100 200", ONLY="steady all", PER_NAMESPACE, LIMIT, PROFILE=folder
	@$(PYTHON) -m benchmarks $(if $(SIZES),--sizes "$(SIZES)") $(if $(ONLY),--only "$(ONLY)") \
		$(if $(PER_NAMESPACE),--per-namespace $(PER_NAMESPACE)) $(if $(LIMIT),--limit $(LIMIT)) $(if $(PROFILE),--profile "$(PROFILE)")

bench-churn: setup ## memory while 1,000 rollouts come and go; POPULATION, TOTAL, MINUTES, SPEED
	@$(PYTHON) -m benchmarks.churn $(if $(POPULATION),--population $(POPULATION)) $(if $(TOTAL),--total $(TOTAL)) \
		$(if $(MINUTES),--minutes $(MINUTES)) $(if $(SPEED),--speed $(SPEED))

bench-shards: setup ## two operators over SIZE rollouts, one of them killed: who writes what
	@$(PYTHON) -m benchmarks.shards $(if $(SIZE),--size $(SIZE))

bench-felt: setup ## what a user feels of a failing candidate, in kind; RUNS, SCRAPES="1 5 15", WEIGHTS="5 50", POLL, AT_ONCE, RESUME
	@$(PYTHON) -m benchmarks.felt $(if $(RUNS),--runs $(RUNS)) $(if $(SCRAPES),--scrapes "$(SCRAPES)") \
		$(if $(WEIGHTS),--weights "$(WEIGHTS)") $(if $(POLL),--poll $(POLL)) $(if $(AT_ONCE),--at-once $(AT_ONCE)) \
		$(if $(RESUME),--resume "$(RESUME)")

tools: setup # kubectl and helm
	@$(PYTHON) -c "from hack.cluster import packages; packages.ensure_command_line_tools()"

binaries: setup # kube-apiserver, etcd, prometheus, kubectl, helm, MLflow's server
	@$(CLUSTER) binaries > /dev/null

cluster: setup ## the cluster with Envoy Gateway, Prometheus, MLflow and the operator
	@$(PYTHON) -m hack.demo.installed

image: setup ## build the images, and load them into the cluster if there is one
	@$(PYTHON) -m hack.demo.installed --images

lock: setup ## pin the dependencies anew, after a change of pyproject.toml
	$(LOCK) pyproject.toml --output-file requirements.lock
	$(LOCK) pyproject.toml --group dev --output-file requirements-dev.lock
	$(LOCK) hack/demo/requirements.in --output-file hack/demo/requirements.lock
	$(LOCK) hack/digits/requirements.in --output-file hack/digits/requirements.lock

format: setup ## put the code into shape
	@.venv/bin/ruff check --fix operator tests hack
	@.venv/bin/ruff format operator tests hack

install-manifest: tools ## generate CRDs, schemas, reference and manifests/install.yaml
	@.venv/bin/ops-commander crd
	@$(PYTHON) -m hack.render all
