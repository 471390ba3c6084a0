package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// What is embedded must be what the sources say: run go generate and commit.
func TestDistIsUpToDate(t *testing.T) {
	want, err := bundle("../ui")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.ReadDir("../dist")
	if err != nil {
		t.Fatal(err)
	}
	if got := len(dir); got != len(want) {
		t.Errorf("dist holds %d files, the build makes %d", got, len(want))
	}
	for name, text := range want {
		got, err := os.ReadFile(filepath.Join("../dist", name))
		if err != nil {
			t.Error(err)
			continue
		}
		if !bytes.Equal(got, text) {
			t.Errorf("dist/%s is not what ui/ builds: run go generate ./internal/console", name)
		}
	}
}
