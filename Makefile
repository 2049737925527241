# Tasks, with the commands that .ci/run uses. `make` alone lists them.
.PHONY: help install test lint format types layers docs site check third-party browser

help:
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/'

install: ## the package with all that its checks need, into the active environment
	pip install -c constraints.txt -e '.[dev]'

test: ## the tests
	pytest -n auto

lint: ## style
	ruff format --check .
	ruff check .

format: ## put style right
	ruff format .
	ruff check --fix .

types: ## mypy --strict
	mypy

layers: ## which room may import which
	PYTHONPATH=core:priors:backbones:plugins lint-imports

docs: ## the generated pages
	python docs/build_plugins.py
	python docs/build_cli.py > docs/cli.md
	python docs/build_architecture.py

site: ## the documentation as a site, warnings are errors
	.ci/site

check: lint types layers test ## all of it but the two below

third-party: ## packages of third parties, in an environment of their own
	.ci/third-party

browser: ## the live page and the ablation's report in Chromium
	.ci/browser
