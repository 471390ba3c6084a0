// Package clients runs other people's clients against the real sheepgate
// binary: the JavaScript and Python ones from here, the Go one in a module of
// its own in folder go. All of them talk to what command gateway starts.
package clients

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// need skips the test when what it needs is missing; with CI=true it fails.
func need(t *testing.T, ok bool, what string) {
	t.Helper()
	if ok {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("missing: %s", what)
	}
	t.Skipf("missing: %s", what)
}

// environment starts the gateway and returns the variables that clients read.
func environment(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("go", "run", "./test/clients/gateway")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // ends it
		if err := cmd.Wait(); err != nil {
			t.Errorf("gateway: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("gateway did not start: %v", err)
	}
	var g struct {
		URL   string `json:"url"`
		Key   string `json:"key"`
		Admin string `json:"admin_key"`
	}
	if err := json.Unmarshal(line, &g); err != nil {
		t.Fatal(err)
	}
	return append(os.Environ(), "SHEEPGATE_URL="+g.URL, "SHEEPGATE_KEY="+g.Key, "SHEEPGATE_ADMIN="+g.Admin)
}

func run(t *testing.T, env []string, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = dir, env, 5*time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	t.Logf("%s", out)
}

func TestNode(t *testing.T) {
	node, err := exec.LookPath("node")
	need(t, err == nil, "node")
	_, err = os.Stat("node/node_modules/openai")
	need(t, err == nil, "npm ci in test/clients/node")
	run(t, environment(t), "node", node, "--test", "--test-reporter=spec", "clients.test.mjs")
}

func TestPython(t *testing.T) {
	const python = "/usr/bin/python3" // Debian's, with its httpx
	need(t, exec.Command(python, "-c", "import httpx").Run() == nil, "python3-httpx")
	run(t, environment(t), "python", python, "monitor.py")
}
