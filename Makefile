# One command each; "make help" lists them.

.PHONY: help run test check all race-short race dtm browser screenshots short simulate guards guards-short fuzz cover chaos bench bench-short bench-against clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

run: ## run the example order service
	go run ./examples/order

# Memory for time: the tests, the compiler and the linter collect garbage less often.
test check all race-short dtm browser simulate guards-short: export GOGC = 400

test: SEEDS ?= 120
test: check all race-short dtm browser simulate ## all checks and all tests, on private servers that it installs and starts

check: ## formatting, go.mod, vet, linter, and the arrows between packages
	.ci/check

# Without vet, which check runs on all of it. The tests of three databases share two processors
# with the databases, and a test of a lease or a deadline may miss its time there. So a few
# tests that fail are run once more, without the others; the output shows both runs.
all: ## all tests except the simulation, on private servers; the longest packages first
	CI=true .ci/servers go run gotest.tools/gotestsum@v1.13.0 --format pkgname --hide-summary skipped --rerun-fails=1 --rerun-fails-max-failures 6 \
	  --packages "./tcc ./saga/embedded ./branches/message ./saga/xa ./saga/internal/test/chaos ./saga/remote $$(go list ./... | grep -v internal/test/simulation | xargs)" \
	  -- -vet=off -parallel 4 -timeout 12m

race-short: ## the parts of the engine with the race detector, without servers
	CI= go test -race -gcflags=modernc.org/...=-race=false -short -timeout 12m $$(go list ./saga/internal/... | grep -v internal/test/ | grep -v internal/guards)

# Without SQLite's C code, which is not ours and takes most of the time; and the longest packages first.
race: ## all tests with the race detector, on private servers
	CI=true .ci/servers go test -race -gcflags=modernc.org/...=-race=false -parallel 4 -timeout 12m ./tcc ./saga/embedded ./branches/message ./...

dtm: ## DTM's own tests, against our server of its API, on private servers
	CI=true .ci/servers sh -c 'cd saga/dtm/server/dtmtests && go test -count 1 .'

browser: ## the console in headless Chromium, which it installs
	.ci/packages chromium
	cd saga/console/browsertest && CI=true go test -count 1 .

screenshots: ## the pictures of the console in the README
	.ci/packages chromium
	cd saga/console/browsertest && go test -count 1 -run '^TestScreenshots$$' . -args -screenshots ../screenshots

short: ## the tests that need no server; the others say that they skip
	go test -short ./...

fuzz: FOR ?= 20s
fuzz: ## look for bad input that is not refused, FOR=20s for each entry point
	CI=true .ci/servers bash -c 'set -e; for test in $$(grep -rhoE "^func Fuzz\w+" --include=*_test.go . | cut -c6-); do \
	  go test -run "^$$" -fuzz "^$$test\$$" -fuzztime $(FOR) ./$$(dirname $$(grep -rl "^func $$test(" --include=*_test.go .)); done'

simulate: ## the engine in a simulated world, in SEEDS=2000 ways
	go test -timeout 0 ./saga/internal/test/simulation -sim.seeds=$(or $(SEEDS),2000)

guards: ## take out each guard of the code, and see its test fail, on private servers; writes saga/internal/guards/README.md
	CI=true .ci/servers go test -v -count 1 -timeout 0 -parallel 2 -run '^TestGuards$$' ./saga/internal/guards -guards all -guards.write

guards-short: ## the same for the first ones, on SQLite, in about a minute
	go test -count 1 -run '^TestGuards$$' ./saga/internal/guards -guards short

cover: ## test coverage by package, on private servers
	CI=true .ci/servers go test -cover -coverpkg=./saga/...,./tcc/...,./branches/...,./sql/... ./...

chaos: FOR ?= 10m
chaos: SEED ?= 0
chaos: ## kill, pause and cut off processes with wrong clocks, FOR=10m; SEED=7 draws the same faults again
	CI=true .ci/servers go test -v -count 1 -timeout 0 -run '^(TestChaos|TestHostIsKilled)$$' ./saga/internal/test/chaos -chaos.for $(FOR) -chaos.seed $(SEED) -chaos.hostkills 20

bench: ## tccsaga, the same work by hand, and a DTM server, side by side, in about 25 minutes; writes saga/bench/results
	.ci/servers sh -c 'cd saga/bench && go run . -out results'

bench-short: ## the same in some minutes: a line "ratio CASE VALUE TARGET" for each case
	@.ci/servers sh -c 'cd saga/bench && go run . -short'

bench-against: ONLY ?= spread
bench-against: ## this library and that of another checkout, in turns: OTHER=../before ONLY=spread
	.ci/servers sh -c 'cd saga/bench && go run . -against "$(abspath $(OTHER))" -only $(ONLY) -callers 1,64 -rounds 5'

clean: ## remove the data of the example
	rm -rf order-data
