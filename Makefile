# make test needs only Go. What a test needs beyond it (a browser, Prometheus,
# Node, Python) is looked for and skipped with a line, or required with CI=true.

RACE := $(shell command -v cc >/dev/null 2>&1 && [ "$$(go env CGO_ENABLED)" = 1 ] && echo -race)

.PHONY: build test lint bench bench-store generate fuzz

build:
	CGO_ENABLED=0 go build -trimpath -o sheepgate ./cmd/sheepgate

test:
	go test $(RACE) -timeout 20m ./...
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

generate:
	go generate ./...

fuzz:
	@for p in $$(go list ./...); do for f in $$(go test -list '^Fuzz' $$p | grep ^Fuzz); do \
	  go test -run '^$$' -fuzz "^$$f$$" -fuzztime 30s $$p || exit 1; done; done
