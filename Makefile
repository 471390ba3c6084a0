# make test needs only Go. What a test needs beyond it (a browser, Prometheus,
# Node, Python) is looked for and skipped with a line, or required with CI=true.

RACE := $(shell command -v cc >/dev/null 2>&1 && [ "$$(go env CGO_ENABLED)" = 1 ] && echo -race)

.PHONY: faults soak build test lint bench bench-store generate fuzz reproducible vuln licences

# The same commit and VERSION give the same bytes, wherever they are built.
VERSION ?=

build:
	CGO_ENABLED=0 go build -trimpath -ldflags '-X main.release=$(VERSION)' -o sheepgate ./cmd/sheepgate

test:
	go test $(RACE) -timeout 20m $$(go list ./... | grep -v /test/)
	go test -timeout 10m ./internal/socket ./internal/h1 # the race detector has sockets of its own
	go test $(RACE) -timeout 20m -p 1 ./test/... # one after another: they run real programs and look at the clock
	@if [ -d test/clients/go ]; then cd test/clients/go && go test -timeout 10m ./...; fi

lint:
	@test -z "$$(gofmt -l cmd internal monitor bench test *.go 2>/dev/null)" || { gofmt -l cmd internal bench test *.go; exit 1; }
	go vet ./...
	@if command -v golangci-lint >/dev/null 2>&1; then golangci-lint run; \
	  elif [ "$$CI" = true ]; then echo "lint: golangci-lint is not installed" >&2; exit 1; \
	  else echo "lint: golangci-lint is not installed; gofmt and go vet were run"; fi

bench:
	go run ./bench

# Ten million Calls in the store: some minutes and 2 GB of disk.
bench-store:
	go run ./bench/store

# What takes too long under the race detector: each operation of the disk fails
# in turn, and 200 lives of the whole server.
faults:
	go test ./internal/store/local -run TestDisk -timeout 20m
	CI=true go test ./cmd/sheepgate -run TestWorld -timeout 20m

# Hours: as many lives of the whole server in a bubble, kills and faults of the
# disk as the nights are long.
soak:
	SHEEPGATE_WORLDS=10000 go test ./cmd/sheepgate -run TestWorld -timeout 12h
	SHEEPGATE_DISK_EVERY=1 SHEEPGATE_SEEDS=200 go test ./internal/store/local -timeout 6h
	SHEEPGATE_KILLS=1000 go test ./test/crash -run TestKill -timeout 6h -v
	SHEEPGATE_SOAK=10m SHEEPGATE_FAULT_NAMES=1000000 go test ./test/fault -run 'TestSoak|TestNames|TestIdleStreams' -timeout 3h -v

generate:
	go generate ./...

# Two clones in two folders, the second one without a cache: a minute or two.
reproducible:
	@.ci/reproducible

# Known vulnerabilities in what the program calls.
vuln:
	@.ci/vuln

# docs/licences.md is written anew; make test checks it.
licences:
	go test ./test/licences -update

FUZZTIME ?= 30s

fuzz: # each target for FUZZTIME; one that is given for itself: make fuzz FUZZ=FuzzScan
	@set -e; for d in $$(grep -rl --include='*_test.go' '^func Fuzz' cmd internal monitor test 2>/dev/null | xargs -n1 dirname | sort -u); do \
	  for f in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(f .*/\1/p' $$d/*_test.go | grep -x "$(or $(FUZZ),.*)"); do \
	    echo "fuzz: $$d $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s ./$$d; done; done
