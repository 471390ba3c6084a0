// Package sheepgate holds nothing but the test that keeps the import table of
// docs/ARCHITECTURE.md true.
package sheepgate

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sheepgate/sheepgate/"

// mayImport is the table: a folder, and what of ours it may import. A folder
// that is not here may not exist; tests are free.
var mayImport = map[string][]string{
	"internal/llm":                  {},
	"internal/config":               {},
	"internal/socket":               {},
	"internal/h1":                   {"internal/socket"},
	"internal/redact":               {},
	"internal/call":                 {"internal/llm"},
	"internal/provider":             {"internal/llm"},
	"internal/provider/sim":         {"internal/llm"},
	"internal/price":                {"internal/llm"},
	"internal/token":                {"internal/llm"},
	"internal/limit":                {"internal/call", "internal/llm"},
	"internal/gateway":              {"internal/provider", "internal/price", "internal/token", "internal/limit", "internal/call", "internal/h1", "internal/socket", "internal/redact", "internal/llm"},
	"internal/store":                {"internal/call", "internal/llm"},
	"internal/store/storetest":      {"internal/store", "internal/call", "internal/llm"},
	"internal/store/local":          {"internal/store", "internal/call", "internal/llm"},
	"internal/store/local/disktest": {"internal/store/local"},
	"internal/state":                {"internal/call", "internal/llm"},
	"internal/metrics":              {"internal/call", "internal/llm"},
	"internal/console":              {"internal/store", "internal/state", "internal/call", "internal/price", "internal/limit", "internal/alert", "internal/quality", "internal/token", "internal/llm"},
	"internal/console/build":        {},
	"monitor":                       {"internal/provider", "internal/llm"},
}

// free may import everything: programs and tests.
var free = []string{"cmd/", "bench", "test/"}

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		dir, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours || slices.ContainsFunc(free, func(f string) bool { return strings.HasPrefix(dir, f) }) {
			continue
		}
		seen++
		allowed, ok := mayImport[dir]
		if !ok {
			t.Errorf("%s is not in the table of folders: docs/ARCHITECTURE.md says what may exist", dir)
			continue
		}
		for _, imp := range p.Imports {
			if to, ours := strings.CutPrefix(imp, module); ours && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s, which the table does not allow", dir, to)
			}
		}
		if dir == "internal/llm" {
			for _, imp := range p.Imports {
				if strings.Contains(strings.Split(imp, "/")[0], ".") {
					t.Errorf("internal/llm imports %s: the standard library only", imp)
				}
			}
		}
	}
	if seen < 5 {
		t.Fatalf("only %d packages were looked at", seen)
	}
}
