# One command each; "make help" lists them.

.PHONY: help run test check race short cover clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

run: ## run the example order service
	go run ./examples/order

test: check race ## all checks and all tests, on private servers that it installs and starts

check: ## formatting, go.mod, vet, linter, and the arrows between packages
	.ci/check

race: ## all tests with the race detector, on private servers
	CI=true .ci/servers go test -race -timeout 12m ./...

short: ## the tests that need no server; the others say that they skip
	go test -short ./...

cover: ## test coverage by package, on private servers
	CI=true .ci/servers go test -cover -coverpkg=./saga/...,./tcc/...,./branches/...,./sql/... ./...

clean: ## remove the data of the example
	rm -rf order-data
