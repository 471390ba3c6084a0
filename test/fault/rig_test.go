// Package fault holds the gateway against a hostile world: an upstream with
// every fault that one can have (package upstream), clients that mean harm,
// and what must hold whatever they do. It runs the built program, as it would
// run in production, and looks only at what anybody could look at: answers,
// the API, /v1/metrics, the log.
package fault

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/test/fault/upstream"
)

var (
	binary string

	// raceEnabled builds the program with the race detector. It is then so slow
	// that bounds on time fail; what counts is that no log holds a DATA RACE.
	raceEnabled = os.Getenv("SHEEPGATE_FAULT_RACE") != ""
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sheepgate-fault")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "sheepgate")
	args := []string{"build", "-o", binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "../../cmd/sheepgate")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

const (
	adminKey  = "admin-key-of-the-fault-tests-0123456789"
	clientKey = "client-key-of-the-fault-tests-0123456789"
)

// providerKeys are what must never leave the gateway but for the provider.
var providerKeys = map[string]string{
	"openai":    "sk-openai-PROVIDER-SECRET-0a1b2c3d4e5f",
	"anthropic": "sk-ant-PROVIDER-SECRET-5f4e3d2c1b0a",
	"gemini":    "AIza-gemini-PROVIDER-SECRET-9z8y7x6w5v",
}

// A gateway is a running program.
type gateway struct {
	url  string
	data string // its folder
	cmd  *exec.Cmd
	logs *logs
	done chan error
}

// logs is what the program writes.
type logs struct {
	mu    sync.Mutex
	text  bytes.Buffer
	ready chan string
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

var serves = regexp.MustCompile(`sheepgate serves on (\S+)`)

func (l *logs) follow(r io.Reader) {
	for br := bufio.NewReader(r); ; {
		line, err := br.ReadString('\n')
		l.mu.Lock()
		l.text.WriteString(line)
		l.mu.Unlock()
		if m := serves.FindStringSubmatch(line); m != nil {
			l.ready <- m[1]
		}
		if err != nil {
			return
		}
	}
}

// providers is the providers section for an upstream: up, an and ge speak the
// dialects, each with a key of its own.
func providers(up *upstream.Server) string {
	return fmt.Sprintf(`providers:
  up-openai: { type: openai, base_url: %[1]s/openai/v1, key: %[2]s }
  up-anthropic: { type: anthropic, base_url: %[1]s/anthropic/v1, key: %[3]s }
  up-gemini: { type: gemini, base_url: %[1]s/gemini/v1beta, key: %[4]s }
`, up.URL, providerKeys["openai"], providerKeys["anthropic"], providerKeys["gemini"])
}

// prices gives every fault's model a price: 2 USD a million tokens in, 8 out.
func prices() string {
	var b strings.Builder
	b.WriteString("models:\n")
	for f := range upstream.Faults {
		for d := range providerKeys {
			fmt.Fprintf(&b, "  - { provider: up-%s, id: %q, rows: [{ row: standard/1, tier: standard, rates: { input: 2, output: 8 } }] }\n", d, f)
		}
	}
	return b.String()
}

const (
	inNano  = 2000 // nano-USD a token, as prices has it
	outNano = 8000
)

// serve starts the program with a configuration below providers, and ends it
// with the test.
func serve(t *testing.T, yaml string, environ ...string) *gateway {
	t.Helper()
	g := begin(t, yaml, environ...)
	t.Cleanup(func() {
		if g.cmd.ProcessState == nil {
			_ = g.cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-g.done:
			case <-time.After(20 * time.Second):
				t.Error("the gateway does not end")
				_ = g.cmd.Process.Kill()
				<-g.done
			}
		}
		g.checkLog(t)
	})
	return g
}

// lookAtSources makes go test run again when the program has changed: it keeps a
// result until a file changes that a test has looked at.
var lookAtSources = sync.OnceValue(func() error {
	for _, dir := range []string{"../../cmd", "../../internal"} {
		if err := filepath.WalkDir(dir, func(_ string, _ os.DirEntry, err error) error { return err }); err != nil {
			return err
		}
	}
	return nil
})

func begin(t *testing.T, yaml string, environ ...string) *gateway {
	t.Helper()
	if err := lookAtSources(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	own := filepath.Join(dir, "prices.yaml")
	conf := filepath.Join(dir, "sheepgate.yaml")
	data := filepath.Join(dir, "data")
	text := fmt.Sprintf("listen: 127.0.0.1:0\nadmin_key: %s\nkeys:\n  client: { key: %s }\nprices: { overrides: %q }\n%s", adminKey, clientKey, own, yaml)
	if !strings.Contains(yaml, "data: ") {
		text += fmt.Sprintf("data: %q\n", data)
	}
	for name, s := range map[string]string{own: prices(), conf: text} {
		if err := os.WriteFile(name, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := &gateway{data: data, cmd: exec.Command(binary, "serve", "--config", conf), logs: &logs{ready: make(chan string, 1)}, done: make(chan error, 1)}
	if files, ok := strings.CutPrefix(strings.Join(environ, " "), "FILES="); ok { // at most so many descriptors
		g.cmd = exec.Command("sh", "-c", `ulimit -n "$0" && exec "$@"`, files, binary, "serve", "--config", conf)
	}
	g.cmd.Env = append([]string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}, environ...)
	r, w := io.Pipe()
	g.cmd.Stderr, g.cmd.Stdout = w, w
	go g.logs.follow(r)
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		err := g.cmd.Wait()
		w.Close()
		g.done <- err
		close(g.done)
	}()
	select {
	case g.url = <-g.logs.ready:
	case err := <-g.done:
		t.Fatalf("the gateway ended: %v\n%s", err, g.logs)
	case <-time.After(20 * time.Second):
		_ = g.cmd.Process.Kill()
		t.Fatalf("the gateway does not begin\n%s", g.logs)
	}
	return g
}

// checkLog looks for what no log may hold.
func (g *gateway) checkLog(t *testing.T) {
	t.Helper()
	log := g.logs.String()
	if s := leaks(log); s != "" {
		t.Errorf("the log holds %s", s)
	}
	for _, bad := range []string{"DATA RACE", "panic", "goroutine ", upstream.Words[3] + upstream.Words[4], "level=ERROR"} {
		if i := strings.Index(log, bad); i >= 0 {
			t.Errorf("the log holds %q: %.2000s", bad, log[i:])
		}
	}
}

// leaks names a provider's key that s holds.
func leaks(s string) string {
	for d, k := range providerKeys {
		if strings.Contains(s, k) || strings.Contains(s, k[:12]) {
			return "the key of " + d
		}
	}
	return ""
}

// api asks the API as the admin.
func (g *gateway) api(t testing.TB, path string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", g.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminKey)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %.300s", path, res.StatusCode, b)
	}
	return b
}

// call waits for a Call to be readable: a second at most, by the contract.
func (g *gateway) call(t *testing.T, id string) (*call.Call, string) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		req, _ := http.NewRequest("GET", g.url+"/api/v1/calls/"+id, nil)
		req.Header.Set("Authorization", "Bearer "+adminKey)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode == http.StatusOK {
			c := new(call.Call)
			if err := json.Unmarshal(b, c); err != nil {
				t.Fatalf("%v: %s", err, b)
			}
			return c, string(b)
		}
		if time.Now().After(deadline) {
			t.Fatalf("call %q: %d %s", id, res.StatusCode, b)
		}
	}
}

// calls waits until n Calls can be read and returns them all.
func (g *gateway) calls(t *testing.T, n int) []*call.Call {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		var all []*call.Call
		for cursor := ""; ; {
			var page struct {
				Calls []*call.Call
				Next  string
			}
			b := g.api(t, "/api/v1/calls?limit=200&cursor="+cursor)
			if s := leaks(string(b)); s != "" {
				t.Errorf("/api/v1/calls holds %s", s)
			}
			if err := json.Unmarshal(b, &page); err != nil {
				t.Fatal(err)
			}
			all = append(all, page.Calls...)
			if cursor = page.Next; cursor == "" {
				break
			}
		}
		if len(all) >= n || time.Now().After(deadline) {
			return all
		}
	}
}

// metrics scrapes /v1/metrics.
func (g *gateway) metrics(t testing.TB) samples {
	t.Helper()
	b := string(g.api(t, "/v1/metrics"))
	if s := leaks(b); s != "" {
		t.Errorf("/v1/metrics holds %s", s)
	}
	m := samples{}
	for line := range strings.Lines(b) {
		line = strings.TrimSpace(line)
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			f, err := strconv.ParseFloat(line[i+1:], 64)
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			m[line[:i]] = f
		}
	}
	return m
}

// samples are metrics by name and labels.
type samples map[string]float64

// sum adds the samples of a name that have all the labels.
func (m samples) sum(name string, labels ...string) (sum float64) {
next:
	for k, v := range m {
		n, set, _ := strings.Cut(k, "{")
		if n != name {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(set, l) {
				continue next
			}
		}
		sum += v
	}
	return sum
}

// settled waits until goroutines and descriptors are back near a baseline.
func (g *gateway) settled(t *testing.T, before samples) {
	t.Helper()
	http.DefaultClient.CloseIdleConnections()
	transport.CloseIdleConnections()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		now := g.metrics(t)
		ok := now["sheepgate_none"] == 0
		var late []string
		for name, slack := range map[string]float64{"go_goroutines": 10, "process_open_fds": 10} {
			if now[name] > before[name]*1.05+slack {
				ok = false
				late = append(late, fmt.Sprintf("%s: %v, %v before", name, now[name], before[name]))
			}
		}
		if n := now.sum("holysheep_in_flight"); n != 0 {
			ok = false
			late = append(late, fmt.Sprintf("%v in flight", n))
		}
		if ok {
			return
		}
		if time.Now().After(deadline) {
			sort.Strings(late)
			t.Errorf("not back to the baseline: %s", strings.Join(late, "; "))
			return
		}
	}
}
