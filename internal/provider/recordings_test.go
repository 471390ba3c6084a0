package provider

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// A recording is one real call to a provider.
type recording struct {
	ID       string          `json:"id"`
	Dialect  string          `json:"dialect"`
	Stream   bool            `json:"stream"`
	Model    string          `json:"model"`
	Request  json.RawMessage `json:"request"`
	Status   int             `json:"status"`
	Body     json.RawMessage `json:"body"`
	BodyText string          `json:"body_text"`
}

// recordings are the recorded calls in a dialect. They are no part of the
// project: without them the test is skipped.
func recordings(t testing.TB, dialect string) []recording {
	t.Helper()
	dir := os.Getenv("SHEEPGATE_RECORDINGS")
	if dir == "" {
		dir = "../../../shared/recordings" // ../shared/recordings from the module's root
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.jsonl.gz"))
	if len(files) == 0 {
		t.Skip("no recordings: set SHEEPGATE_RECORDINGS")
	}
	var all []recording
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(z)
		lines.Buffer(nil, 4<<20)
		for lines.Scan() {
			var r recording
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if r.Dialect == dialect {
				all = append(all, r)
			}
		}
		if err := lines.Err(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		f.Close()
	}
	return all
}
