package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// examine runs the doctor on a configuration and gives its findings.
func examine(t *testing.T, wantCode int, environ []string, yaml string, args ...string) []finding {
	t.Helper()
	r := cli(t, environ, append([]string{"doctor", "--json", "--config", write(t, "c.yaml", yaml)}, args...)...)
	var answer struct {
		Checks         []finding
		Failed, Warned int
	}
	if err := json.Unmarshal([]byte(r.stdout), &answer); err != nil || r.code != wantCode {
		t.Fatalf("doctor: code %d, want %d, %v\n%s%s", r.code, wantCode, err, r.stdout, r.stderr)
	}
	n := map[string]int{}
	for _, f := range answer.Checks {
		n[f.Status]++
		if f.Check == "" || f.What == "" || f.Status != "ok" && f.Do == "" && f.Check != "config" {
			t.Errorf("a finding says too little: %+v", f)
		}
	}
	if n["fail"] != answer.Failed || n["warn"] != answer.Warned || n["ok"]+n["fail"]+n["warn"] != len(answer.Checks) || (answer.Failed > 0) != (wantCode != exitOK) {
		t.Errorf("%d failed and %d warned of %+v", answer.Failed, answer.Warned, answer.Checks)
	}
	if strings.Contains(r.stdout+r.stderr, "hunter2") {
		t.Errorf("a secret shows: %s", r.stdout)
	}
	return answer.Checks
}

// has fails unless there is a finding with this beginning of "status check: what".
func has(t *testing.T, list []finding, want string) {
	t.Helper()
	for _, f := range list {
		if strings.HasPrefix(f.Status+" "+f.Check+": "+f.What, want) {
			return
		}
	}
	t.Errorf("no finding %q in:\n%+v", want, list)
}

func TestDoctorOfAConfiguration(t *testing.T) {
	list := examine(t, exitConfig, nil, "lisen: x\nproviders: { openai: { key: env:HUNTER } }\n")
	has(t, list, "fail config: ")
	if n := len(list); n < 4 { // two problems, files, memory
		t.Errorf("%d findings: %+v", n, list)
	}
	has(t, examine(t, exitConfig, nil, "prices: { overrides: /nonexistent.yaml }\n"), "fail config: prices.overrides: open /nonexistent.yaml")
	data := t.TempDir()
	up, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	down, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down.Close()
	yaml := fmt.Sprintf(`
listen: 127.0.0.1:0
data: %q
providers:
  up: { type: openai, base_url: "http://%s/v1", key: hunter2-hunter2 }
  down: { type: openai, base_url: "http://%s/v1" }
  nowhere: { type: openai, base_url: https://sheepgate.invalid/v1 }
  deepseek: { base_url: "http://%[2]s/v1", key: hunter2-hunter2 }
models: { m: { use: [up/x, deepseek/no-such-model, deepseek/deepseek-chat] } }
`, filepath.Join(data, "new"), up.Addr(), down.Addr())
	list = examine(t, exitFailed, []string{"GOMEMLIMIT=1GiB"}, yaml)
	for _, want := range []string{"warn config: ", "ok config: ", "ok listen: 127.0.0.1:0 is free", "ok data: " + filepath.Join(data, "new") + " is not there yet", "ok store: 0 calls", "ok clock: ", "ok admin key: the first start makes one",
		"ok memory: GOMEMLIMIT is 1GiB", "ok provider up: ", "fail provider down: ", "fail provider nowhere: sheepgate.invalid has no address", "ok provider deepseek: ", "warn prices: no model of provider up has a price", "warn prices: deepseek/no-such-model of the alias m has no price", "ok prices: "} {
		has(t, list, want)
	}
	if _, err := os.Stat(filepath.Join(data, "new")); err == nil {
		t.Error("the doctor made the data folder")
	}
	list = examine(t, exitOK, nil, yaml, "--offline")
	has(t, list, "warn memory: GOMEMLIMIT is not set")
	for _, f := range list {
		if strings.HasPrefix(f.Check, "provider") {
			t.Errorf("--offline: %+v", f)
		}
	}
}

func TestDoctorOfFolders(t *testing.T) {
	data := t.TempDir()
	yaml := fmt.Sprintf("listen: 127.0.0.1:0\ndata: %q\nproviders: { ollama: }\n", data)
	if r := cli(t, nil, "import", "--ndjson", write(t, "c.ndjson", line(t, 0, time.Now().Add(time.Hour))), "--config", write(t, "c.yaml", yaml)); r.code != exitOK {
		t.Fatalf("import: %+v", r)
	}
	for name, text := range map[string]string{"calls/x.parquet.quarantine": "x", "calls/y.parquet.orphan": "y", "state.db.1.quarantine": "z", "state.db": strings.Repeat("no database ", 1000)} {
		if err := os.WriteFile(filepath.Join(data, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(data, 0o755); err != nil {
		t.Fatal(err)
	}
	list := examine(t, exitFailed, nil, yaml, "--offline")
	for _, want := range []string{"warn data: " + data + " is open to other users", "ok store: 0 calls in 0 segments, and a tail of 1 writes", "fail clock: the newest call started at", "fail admin key: state.db cannot be read",
		"warn store: x.parquet.quarantine could not be read", "warn store: y.parquet.orphan is a file", "warn store: state.db.1.quarantine could not be read"} {
		has(t, list, want)
	}
	if err := os.WriteFile(filepath.Join(data, "calls", "tail.db"), []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	has(t, examine(t, exitFailed, nil, yaml, "--offline"), "fail store: "+filepath.Join(data, "calls")+": it cannot be read: tail.db")
	file := write(t, "file", "")
	has(t, examine(t, exitFailed, nil, fmt.Sprintf("listen: 127.0.0.1:0\ndata: %q\n", file), "--offline"), "fail data: "+file+" is no folder")
	if r := cli(t, nil, "doctor", "--offline", "--config", write(t, "c.yaml", yaml)); r.code != exitFailed || !strings.Contains(r.stderr, "checks failed") || !strings.Contains(r.stdout, "\nwarn  data       "+data+" is open to other users of this machine (mode 0755) -> chmod 700 "+data+"\n") {
		t.Errorf("doctor: %+v", r)
	}
}

// TestDoctorBesideAServer: a running server is asked and not disturbed.
func TestDoctorBesideAServer(t *testing.T) {
	s := startTest(t, "providers: { ollama: }\n")
	addr := strings.TrimPrefix(s.url, "http://")
	yaml := fmt.Sprintf("listen: %q\ndata: %q\nadmin_key: env:ADMIN\nproviders: { ollama: }\n", addr, s.data)
	environ := []string{"ADMIN=hunter2-hunter2-hunter2"}
	list := examine(t, exitOK, environ, yaml, "--offline")
	for _, want := range []string{"ok server: a sheepgate serves on " + addr, "ok store: ", "ok admin key: the configuration sets it"} {
		has(t, list, want)
	}
	if r := cli(t, nil, "doctor", "--serving", "--config", write(t, "c.yaml", yaml)); r.code != exitOK || !strings.HasPrefix(r.stdout, "ok  server  a sheepgate serves on ") {
		t.Errorf("doctor --serving: %+v", r)
	}
	if err := s.store.Health(); err != nil || s.recorder.Lost() != 0 {
		t.Errorf("the server was disturbed: %v", err)
	}
	has(t, examine(t, exitFailed, environ, strings.Replace(yaml, addr, "127.0.0.1:0", 1), "--offline"), "fail store: "+filepath.Join(s.data, "calls")+" is in use by a process that does not serve on")
	has(t, examine(t, exitOK, environ, strings.Replace(yaml, s.data, t.TempDir(), 1), "--offline"), "warn store: the server on "+addr+" does not use ")
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	yaml = fmt.Sprintf("listen: %q\ndata: %q\n", strings.TrimPrefix(other.URL, "http://"), t.TempDir())
	has(t, examine(t, exitFailed, nil, yaml, "--offline"), "fail listen: another program has ")
	other.Close()
	has(t, examine(t, exitFailed, nil, yaml, "--serving"), "fail server: nothing that answers is on ")
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "state.db"), []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	yaml = fmt.Sprintf("listen: 127.0.0.1:0\ndata: %q\n", data)
	addr = strings.TrimPrefix(serveFile(t, write(t, "c.yaml", yaml)).url, "http://")
	yaml = strings.Replace(yaml, "127.0.0.1:0", addr, 1)
	list = examine(t, exitOK, nil, yaml, "--serving")
	has(t, list, "ok server: ")
	has(t, list, "warn server: the server on "+addr+" is degraded: state: state.db could not be read")
}
