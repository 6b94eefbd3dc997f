.DEFAULT_GOAL := help
SHELL := bash
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo serve test lint format lock kubeflow bench clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.lock setup.py setup.sh
	@./setup.sh

setup: $(READY) ## .venv with Python 3.10 and exactly requirements.lock

demo: $(READY) ## MovieLens, three spans, and recommendations by title
	@$(BIN)/python examples/movielens/demo.py

serve: $(READY) ## serve the pushed models until stopped
	@$(BIN)/evergreen serve

test: $(READY) lint ## lint, then the tests, but for those of make kubeflow
	@$(BIN)/python -m pytest -m "not cluster" --numprocesses 2 --dist loadfile --ignore tests/serving
	@$(BIN)/python -m pytest -m "not cluster" tests/serving

lint: $(READY) ## ruff, mypy, import rules
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy && $(BIN)/mypy --explicit-package-bases kubeflow/*.py
	@$(BIN)/lint-imports --no-cache | tail -n 12

format: $(READY) ## rewrite the code as lint wants it
	@$(BIN)/ruff check --fix-only --quiet . && $(BIN)/ruff format --quiet .

lock: ## resolve requirements.lock anew (needs uv)
	uv pip compile --quiet --python-version 3.10 --extra dev setup.py -o requirements.lock

kubeflow: $(READY) ## compile the package, run it as a cluster would, compare with a local run
	@$(BIN)/python -m tests.kubeflow.conformance
	@$(BIN)/python -m pytest -m cluster

bench: $(READY) ## seconds per component beside the sum of pure work
	@$(BIN)/python benchmarks/pipeline_time.py

clean: ## remove everything that runs wrote (not .venv)
	rm -rf .evergreen build *.egg-info
