// Package prometheus lets a real Prometheus scrape a real `sheepgate demo` with
// the scrape configuration that we publish, and asks its HTTP API what a
// dashboard would.
package prometheus

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// need skips the test when a program is missing; with CI=true it fails.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatalf("missing: %s", program)
	}
	if err != nil {
		t.Skipf("missing: %s", program)
	}
	return path
}

type demo struct {
	URL   string `json:"url"`
	Admin string `json:"admin_key"`
	Key   string `json:"key"`
}

// startDemo builds and runs the demo, twenty times as fast as life.
func startDemo(t *testing.T) demo {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "sheepgate")
	build := exec.Command("go", "build", "-o", binary, "./cmd/sheepgate")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.Command(binary, "demo", "--listen", "127.0.0.1:0", "--speed", "20", "--json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd.Stderr = &log
	run(t, cmd, &log)
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("the demo did not start: %v", err)
	}
	var d demo
	if err := json.Unmarshal(line, &d); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return d
}

// run starts cmd and stops it at the end of the test.
func run(t *testing.T, cmd *exec.Cmd, log *bytes.Buffer) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // by our own signal
		kill.Stop()
		if t.Failed() {
			t.Logf("%s:\n%.4000s", cmd.Path, log)
		}
	})
}

// The published configuration, with the target and the interval of this test.
const scrapeConfig = `scrape_configs:
  - job_name: sheepgate
    scrape_interval: 1s
    metrics_path: /v1/metrics
    authorization: { credentials: %s }
    static_configs: [{ targets: [%q] }]
`

// startPrometheus returns the address of a Prometheus that scrapes target.
func startPrometheus(t *testing.T, program, target, key string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, fmt.Appendf(nil, scrapeConfig, key, target), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	var log bytes.Buffer
	cmd := exec.Command(program, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr)
	cmd.Stdout, cmd.Stderr, cmd.Dir = &log, &log, dir
	run(t, cmd, &log)
	return "http://" + addr
}

type vector []struct {
	Metric map[string]string
	Value  [2]any
}

func (v vector) number(i int) float64 {
	f, _ := strconv.ParseFloat(v[i].Value[1].(string), 64) // Prometheus's own format
	return f
}

// ask runs an instant query; it fails softly while Prometheus starts.
func ask(addr, query string) (vector, error) {
	resp, err := http.Get(addr + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var reply struct {
		Status string
		Error  string
		Data   struct{ Result vector }
	}
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
		return nil, err
	}
	if reply.Status != "success" {
		return nil, fmt.Errorf("%s: %s", query, reply.Error)
	}
	return reply.Data.Result, nil
}

func TestScrape(t *testing.T) {
	program := need(t, "prometheus")
	d := startDemo(t)
	addr := startPrometheus(t, program, strings.TrimPrefix(d.URL, "http://"), d.Admin)

	// eventually waits for an answer with at least n series whose values are
	// above zero, and checks each one's labels.
	eventually := func(query string, n int, labels ...string) vector {
		t.Helper()
		var v vector
		var err error
		for deadline := time.Now().Add(40 * time.Second); time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
			if v, err = ask(addr, query); err == nil && len(v) >= n {
				break
			}
		}
		if err != nil || len(v) < n {
			t.Fatalf("%s: %d series, want at least %d: %v", query, len(v), n, err)
		}
		for _, s := range v {
			for _, l := range labels {
				if s.Metric[l] == "" {
					t.Errorf("%s: a series without label %s: %v", query, l, s.Metric)
				}
			}
		}
		return v
	}
	for _, model := range []string{"gpt-4.1", "claude-sonnet-4-5", "gemini-2.5-flash", "deepseek-chat"} {
		eventually(fmt.Sprintf(`holysheep_request_total{model=%q} > 0`, model), 1, "model", "provider", "code")
		eventually(fmt.Sprintf(`holysheep_tokens_total{model=%q,type="input"} > 0`, model), 1)
		eventually(fmt.Sprintf(`holysheep_tokens_total{model=%q,type="output"} > 0`, model), 1)
		eventually(fmt.Sprintf(`holysheep_cost_total{model=%q,currency="usd"} > 0`, model), 1)
		for _, le := range []string{"0.5", "1.0", "2.0", "5.0"} {
			v := eventually(fmt.Sprintf(`holysheep_latency_seconds_bucket{model=%q,le=~"%s|%s"} > 0`, model, le, strings.TrimSuffix(le, ".0")), 1)
			if got := v[0].Metric["le"]; got != le {
				t.Errorf("%s: bucket le = %q, want %q", model, got, le)
			}
		}
	}
	for _, query := range []string{
		`sum by (model) (rate(holysheep_request_total[10s])) > 0`,
		`histogram_quantile(0.95, sum by (model, le) (rate(holysheep_latency_seconds_bucket[10s]))) > 0`,
		`sum by (model, type) (rate(holysheep_tokens_total[10s])) > 0`,
		`sum by (model) (increase(holysheep_cost_total[10s])) > 0`,
	} {
		eventually(query, 4, "model")
	}
	types, err := ask(addr, `count by (type) (holysheep_tokens_total)`)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range types {
		if typ := s.Metric["type"]; typ != "input" && typ != "output" {
			t.Errorf("holysheep_tokens_total has type %q", typ)
		}
	}
	// Every call that has a latency was counted.
	v := eventually(`sum(holysheep_latency_seconds_count) <= sum(holysheep_request_total)`, 1)
	t.Logf("scraped, with %g calls so far", v.number(0))
	up := eventually(`up{job="sheepgate"}`, 1)
	if up.number(0) != 1 {
		t.Error("up is not 1")
	}
}

func scrape(t *testing.T, url, key, accept string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/v1/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	req.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b
}

func TestExposition(t *testing.T) {
	promtool := need(t, "promtool")
	d := startDemo(t)
	time.Sleep(2 * time.Second) // some calls
	for _, key := range []string{"", "wrong"} {
		if status, _ := scrape(t, d.URL, key, "*/*"); status != http.StatusUnauthorized {
			t.Errorf("key %q: status %d, want 401", key, status)
		}
	}
	for _, key := range []string{d.Admin, d.Key} {
		status, text := scrape(t, d.URL, key, "text/plain;version=0.0.4")
		if status != http.StatusOK {
			t.Fatalf("status %d: %.200s", status, text)
		}
		cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
		cmd.Stdin = bytes.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("promtool check metrics: %v\n%s", err, out)
		}
	}
	_, open := scrape(t, d.URL, d.Admin, "application/openmetrics-text;version=1.0.0")
	if !bytes.HasSuffix(open, []byte("# EOF\n")) {
		t.Errorf("OpenMetrics does not end with # EOF: %.100q", open[max(0, len(open)-100):])
	}
}
