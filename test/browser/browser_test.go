// Package browser shows in a real Chromium that the console's pages are right,
// live, accessible and safe. The checks are in checks/, one a subtest; this
// file starts the servers that they look at.
package browser

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/evanw/esbuild/pkg/api"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/console"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/price"
	"github.com/sheepgate/sheepgate/internal/provider/sim"
	"github.com/sheepgate/sheepgate/internal/state"
	"github.com/sheepgate/sheepgate/internal/store"
	"github.com/sheepgate/sheepgate/internal/store/local"
)

// lacking skips the test; with CI=true it fails.
func lacking(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("missing: %s", what)
	}
	t.Skipf("missing: %s", what)
}

// tools are the programs that the checks need.
func tools(t *testing.T) (node, chromium string) {
	t.Helper()
	var err error
	if node, err = exec.LookPath("node"); err != nil {
		lacking(t, "node")
	}
	if chromium, err = exec.LookPath("chromium"); err != nil {
		lacking(t, "chromium")
	}
	if _, err := os.Stat("node_modules/playwright-core"); err != nil {
		lacking(t, "npm ci in test/browser")
	}
	return node, chromium
}

// A program is a running sheepgate.
type program struct {
	t      *testing.T
	binary string
	args   []string
	cmd    *exec.Cmd
	out    *bufio.Reader
	log    bytes.Buffer
}

func (p *program) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.binary, p.args...)
	p.cmd.Stderr = &p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *program) stop() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() })
	_ = p.cmd.Wait() // by our own signal
	kill.Stop()
	p.cmd = nil
}

// lookAtSources makes go test run again when something has changed: it keeps a
// result until a file changes that a test has looked at.
func lookAtSources(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"../../cmd", "../../internal", "checks"} {
		if err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				_, err = os.Stat(name)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"run.mjs", "lib.mjs", "package-lock.json"} {
		if _, err := os.Stat(name); err != nil {
			t.Fatal(err)
		}
	}
}

func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "sheepgate")
	cmd := exec.Command("go", "build", "-o", binary, "./cmd/sheepgate")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// run starts a program that ends with the test.
func run(t *testing.T, binary string, args ...string) *program {
	t.Helper()
	p := &program{t: t, binary: binary, args: args}
	p.start()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("sheepgate %s:\n%.4000s", strings.Join(args, " "), p.log.String())
		}
	})
	return p
}

// The keys of the servers that are not the demo.
const (
	adminKey   = "sg-browser-test-admin"
	dataKey    = "sg-browser-test-data"
	metricsKey = "sg-browser-test-metrics"
)

// serve runs `sheepgate serve` with a simulated provider on a data folder of
// its own, and returns when it answers.
func serve(t *testing.T, binary string) (*program, string) {
	t.Helper()
	upstream := httptest.NewServer(sim.New(sim.Options{Speed: 50, Calm: true}))
	t.Cleanup(upstream.Close)
	return serveWith(t, binary, fmt.Sprintf("providers:\n  openai: { base_url: %q, key: simulated }\nkeys:\n  team-a: { key: %s }\n  grafana: { key: %s, metrics: true }\n",
		upstream.URL+"/openai/v1", dataKey, metricsKey))
}

// serveWith runs it with what a configuration says of providers and keys.
func serveWith(t *testing.T, binary, more string) (*program, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "sheepgate.yaml")
	text := fmt.Sprintf("listen: %q\ndata: %q\nadmin_key: %s\n", addr, filepath.Join(dir, "data"), adminKey) + more
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := run(t, binary, "serve", "--config", file)
	alive(t, "http://"+addr)
	return p, "http://" + addr
}

// limited serves with limits and budgets of all kinds, at a provider that says
// what it has left: gpt-4.1 answers at length, o4-mini fails, gpt-4.1-nano has
// no room, and gpt-4o answers when release is called.
func limited(t *testing.T, binary string) (url string, release func()) {
	t.Helper()
	held := make(chan struct{})
	release = sync.OnceFunc(func() { close(held) })
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var ask struct{ Model string }
		if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "application/json")
		status, output := http.StatusOK, 10
		switch ask.Model {
		case "gpt-4.1":
			output = 57_500 // at $8 a million: $0.46
			for k, v := range map[string]string{"limit-requests": "500", "remaining-requests": "40", "reset-requests": "55s", "limit-tokens": "2000000", "remaining-tokens": "1500000", "reset-tokens": "2m0s"} {
				h.Set("x-ratelimit-"+k, v)
			}
		case "gpt-4o":
			select {
			case <-held:
			case <-r.Context().Done():
				return
			}
		case "o4-mini":
			status = http.StatusInternalServerError
		case "gpt-4.1-nano":
			h.Set("Retry-After", "50")
			status = http.StatusTooManyRequests
		}
		w.WriteHeader(status)
		if status != http.StatusOK {
			_, _ = io.WriteString(w, `{"error":{"message":"not now","type":"server_error","code":null}}`)
			return
		}
		fmt.Fprintf(w, `{"id":"c1","object":"chat.completion","created":1,"model":%q,"choices":[{"index":0,"message":{"role":"assistant","content":"Hello."},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":%d,"total_tokens":%d}}`, ask.Model, output, 20+output)
	}))
	t.Cleanup(upstream.Close)
	t.Cleanup(release)
	_, url = serveWith(t, binary, fmt.Sprintf(`
providers:
  openai: { base_url: %q, key: simulated }
keys:
  team-a: { key: %s, team: search, limits: { rpm: 12, tpm: 400k, concurrent: 10 }, budget: [$1/day, $20/month] }
  batch: { key: %s-2 }
teams:
  search: { budget: $40/total, limits: { input_tpm: 50k, output_tpm: 200k } }
rules:
  gpt at openai: { provider: openai, model: gpt-4.1, limits: { tpm: 2M } }
retry: { attempts: 1 }
`, upstream.URL+"/v1", dataKey, dataKey))
	return url, release
}

func alive(t *testing.T, url string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if res, err := http.Get(url + "/healthz"); err == nil {
			res.Body.Close()
			return
		}
	}
	t.Fatalf("%s does not answer", url)
}

// put imports Calls.
func put(t *testing.T, url string, calls []*call.Call) {
	t.Helper()
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	for _, c := range calls {
		if err := enc.Encode(c); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/v1/import", &text)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminKey)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var got struct{ Added int }
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil || got.Added != len(calls) {
		t.Fatalf("import added %d of %d: %v", got.Added, len(calls), err)
	}
}

// calls makes n Calls, several a second, the last a minute ago.
func calls(n int) []*call.Call {
	list := make([]*call.Call, n)
	models := []string{"gpt-4.1", "gpt-4.1-mini", "o4-mini"}
	for i := range list {
		at := time.Now().Add(-time.Minute - time.Duration(i)*300*time.Millisecond).UTC().Truncate(time.Microsecond)
		list[i] = &call.Call{ID: call.NewID(at), StartedAt: at, Origin: call.OriginClient, Key: "team-a", Ingress: "openai.chat", ModelRequested: models[i%3], Provider: "openai", Model: models[i%3],
			Status: call.Success, HTTPStatus: 200, Latency: time.Duration(100+i%900) * time.Millisecond, Usage: llm.Usage{Source: llm.UsageUpstream, Input: int64(i % 700), Output: int64(i % 90)},
			Attempts: []call.Attempt{{Provider: "openai", Model: models[i%3], HTTPStatus: 200}}, Cost: llm.Nano(i), PriceRow: "test"}
	}
	return list
}

// A dead store has lost its disk: what reads it fails.
type dead struct{ store.Store }

var errDisk = errors.New("input/output error")

func (dead) Query(context.Context, store.Query) (*store.Result, error) { return nil, errDisk }
func (dead) List(context.Context, store.List) (store.Page, error)      { return store.Page{}, errDisk }
func (dead) Get(context.Context, string) (*call.Call, error)           { return nil, errDisk }
func (dead) Body(context.Context, string) (*call.Exchange, error)      { return nil, errDisk }

// broken serves the console on a dead store.
func broken(t *testing.T) string {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	ring := st.NewKeyring()
	ring.Set(map[state.Digest]*call.Principal{st.Digest(adminKey): {Key: "admin", Admin: true, Data: true}})
	sessions, err := st.NewSessions(ring)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := st.OpenKeys(nil)
	if err != nil {
		t.Fatal(err)
	}
	calls, err := local.Open(t.TempDir(), local.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { calls.Close() })
	pages := console.New(console.Options{Store: dead{calls}, Auth: ring.Find, Sessions: sessions, Keys: keys, Audit: st.Audit, Tail: &call.Tail{}, Price: price.Default, Log: log, Version: "test", Example: "gpt-4.1",
		Live: func() call.Live { return call.Live{} }, Pending: func() int64 { return 0 }, Lost: func() int64 { return 0 }})
	server := httptest.NewServer(pages)
	t.Cleanup(func() {
		pages.Close()
		server.Close()
	})
	return server.URL
}

// A check runs one file of checks/. Lines that begin with @ are orders to the
// test.
type check struct {
	node     string
	settings map[string]any
}

func (c check) run(t *testing.T, name string, settings map[string]any, orders map[string]func()) {
	t.Helper()
	all := map[string]any{}
	for _, m := range []map[string]any{c.settings, settings} {
		for k, v := range m {
			all[k] = v
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), c.node, "run.mjs", name)
	cmd.Env = append(os.Environ(), "SHEEPGATE_BROWSER="+string(text))
	var failed bytes.Buffer
	cmd.Stderr = &failed
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
	for lines := bufio.NewScanner(out); lines.Scan(); {
		order, is := strings.CutPrefix(lines.Text(), "@")
		if !is {
			t.Log(lines.Text())
			continue
		}
		answer := "unknown"
		if f := orders[order]; f != nil {
			f()
			answer = "ok"
		}
		_, _ = io.WriteString(in, answer+"\n") // a check that has ended says why itself
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, failed.String())
	}
}

const rows = 4000 // of the long list

func TestConsole(t *testing.T) {
	node, chromium := tools(t)
	lookAtSources(t)
	binary := build(t)
	demo := run(t, binary, "demo", "--listen", "127.0.0.1:0", "--speed", "20", "--rate", "0.4", "--past", "20000", "--json")
	line, err := demo.out.ReadBytes('\n')
	if err != nil {
		t.Fatalf("the demo did not start: %v", err)
	}
	var d struct {
		URL   string `json:"url"`
		Admin string `json:"admin_key"`
		Key   string `json:"key"`
	}
	if err := json.Unmarshal(line, &d); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	c := check{node, map[string]any{"chromium": chromium, "url": d.URL, "admin": d.Admin, "key": d.Key}}
	settled(t, d.URL, d.Admin)

	_, empty := serve(t, binary)
	still := map[string]any{"empty": empty, "emptyKey": adminKey, "broken": broken(t), "brokenKey": adminKey}
	for _, name := range []string{"numbers", "live", "views", "keyboard", "detail"} {
		t.Run(name, func(t *testing.T) { c.run(t, name, nil, nil) })
	}
	t.Run("access", func(t *testing.T) { c.run(t, "access", still, nil) })
	t.Run("states", func(t *testing.T) { c.run(t, "states", still, nil) })

	server, url := serve(t, binary)
	own := map[string]any{"url": url, "admin": adminKey, "key": dataKey, "metricsKey": metricsKey, "rows": rows}
	put(t, url, calls(rows))
	t.Run("paging", func(t *testing.T) { c.run(t, "paging", own, nil) })
	t.Run("auth", func(t *testing.T) { c.run(t, "auth", own, nil) })
	t.Run("keys", func(t *testing.T) {
		settings := map[string]any{"broken": still["broken"], "brokenKey": still["brokenKey"]}
		maps.Copy(settings, own)
		c.run(t, "keys", settings, nil)
	})
	t.Run("limits", func(t *testing.T) {
		bounded, release := limited(t, binary)
		settings := map[string]any{"url": bounded, "admin": adminKey, "key": dataKey, "batchKey": dataKey + "-2", "free": empty}
		c.run(t, "limits", settings, map[string]func(){"release": release})
	})
	t.Run("restart", func(t *testing.T) {
		c.run(t, "restart", own, map[string]func(){
			"stop":   server.stop,
			"start":  func() { server.start(); alive(t, url) },
			"import": func() { put(t, url, calls(10)) },
		})
	})
}

// settled waits until the demo's past is in.
func settled(t *testing.T, url, key string) {
	t.Helper()
	count := func() (n float64) {
		now := time.Now().UTC()
		body := fmt.Sprintf(`{"from":%q,"to":%q,"measures":["requests"]}`, now.AddDate(0, 0, -31).Format(time.RFC3339), now.AddDate(0, 0, -20).Format(time.RFC3339))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/v1/query", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var got struct{ Total []float64 }
		if err := json.NewDecoder(res.Body).Decode(&got); err != nil || len(got.Total) != 1 {
			t.Fatalf("query: %v", err)
		}
		return got.Total[0]
	}
	last := -1.0
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		n := count()
		if n > 0 && n == last {
			return
		}
		last = n
	}
	t.Fatal("the demo's past does not come to an end")
}

// The pages' TypeScript is sound: esbuild only strips types.
func TestTypes(t *testing.T) {
	node, _ := tools(t)
	lookAtSources(t)
	out, err := exec.CommandContext(t.Context(), node, "node_modules/typescript/bin/tsc", "--project", ".").CombinedOutput()
	if err != nil {
		t.Errorf("tsc: %v\n%s", err, out)
	}
}

// The page cuts time into the steps that the server cuts it into, in zones with
// and without summer time: bars and days would stand beside their labels
// otherwise.
func TestStepsAreTheServers(t *testing.T) {
	node, _ := tools(t)
	dir := t.TempDir()
	res := api.Build(api.BuildOptions{EntryPoints: []string{"../../internal/console/ui/time.ts"}, Outfile: filepath.Join(dir, "time.mjs"), Format: api.FormatESModule, Bundle: true, Write: true})
	if len(res.Errors) > 0 {
		t.Fatal(res.Errors)
	}
	type cut struct {
		Zone          string
		At, Step      int64
		Start, After  int64 // of the step that holds At, and of the next
		Wall          string
		WallIsSkipped bool // by summer time, or comes twice
	}
	var cuts []cut
	for _, name := range []string{"UTC", "Asia/Seoul", "America/New_York", "Europe/Berlin", "Asia/Kathmandu", "Australia/Sydney"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"1m", "5m", "15m", "1h", "1d"} {
			step, err := store.ParseStep(text)
			if err != nil {
				t.Fatal(err)
			}
			length := step.Fixed
			if step.Days > 0 {
				length = 24 * time.Hour
			}
			// Each hour and 7 minutes of the weeks in which clocks change, and of one in which none does.
			for _, week := range []string{"2026-03-05", "2026-03-26", "2026-04-02", "2026-07-01", "2026-10-01", "2026-10-22", "2026-10-29"} {
				begin, err := time.Parse(time.DateOnly, week)
				if err != nil {
					t.Fatal(err)
				}
				for at := begin; at.Before(begin.AddDate(0, 0, 7)); at = at.Add(67 * time.Minute) {
					start := step.Start(at, zone)
					next := start
					for probe := start.Add(length / 2); !next.After(start); probe = probe.Add(length / 4) {
						next = step.Start(probe, zone)
					}
					wall := at.In(zone).Format("2006-01-02T15:04")
					back, err := time.ParseInLocation("2006-01-02T15:04", wall, zone)
					if err != nil {
						t.Fatal(err)
					}
					cuts = append(cuts, cut{name, at.Unix(), int64(length / time.Second), start.Unix(), next.Unix(), wall, back.Unix() != at.Unix()})
				}
			}
		}
	}
	text, err := json.Marshal(cuts)
	if err != nil {
		t.Fatal(err)
	}
	const script = `
import { readFileSync } from 'node:fs'
import { after, floor, unwall, wall } from './time.mjs'
let wrong = 0
for (const c of JSON.parse(readFileSync(0))) {
  const got = [floor(c.At, c.Step, c.Zone), after(floor(c.At, c.Step, c.Zone), c.Step, c.Zone), wall(c.At, c.Zone), c.WallIsSkipped ? c.At : unwall(c.Wall, c.Zone)]
  const want = [c.Start, c.After, c.Wall, c.At]
  if (got.join() !== want.join() && wrong++ < 5) console.log(JSON.stringify({ ...c, got }))
}
process.exit(wrong ? 1 : 0)
`
	if err := os.WriteFile(filepath.Join(dir, "check.mjs"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, filepath.Join(dir, "check.mjs"))
	cmd.Stdin = bytes.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("of %d times some are cut otherwise: %v\n%s", len(cuts), err, out)
	}
}
