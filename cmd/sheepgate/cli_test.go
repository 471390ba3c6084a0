package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/config"
	"github.com/sheepgate/sheepgate/internal/llm"
)

// A result is what one run of the program left behind.
type result struct {
	code           int
	stdout, stderr string
}

// cli runs the program with a bare environment.
func cli(t *testing.T, environ []string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), args, &env{environ: environ, stdin: strings.NewReader(""), stdout: &out, stderr: &errs})
	return result{code, out.String(), errs.String()}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExitCodes(t *testing.T) {
	broken := write(t, "c.yaml", "lisen: x\n")
	check := func(want int, message string, args ...string) {
		t.Helper()
		if r := cli(t, nil, args...); r.code != want || !strings.Contains(r.stdout+r.stderr, message) {
			t.Errorf("sheepgate %s: code %d, want %d with %q\n%s%s", strings.Join(args, " "), r.code, want, message, r.stdout, r.stderr)
		}
	}
	check(exitOK, "Available Commands")
	check(exitOK, "Available Commands", "config")
	check(exitOK, "sheepgate ", "version")
	check(exitOK, "bash completion", "completion", "bash")
	check(exitOK, `"platform": "`, "version", "--json")
	check(exitOK, "sheepgate version ", "--version")
	check(exitOK, "no model matches", "prices", "list", "nosuch")
	check(exitUsage, `unknown command "sevre" for "sheepgate" (did you mean "serve"?)`+"\nSee: sheepgate --help", "sevre")
	check(exitUsage, `unknown command "chek" for "sheepgate config" (did you mean "check"?)`, "config", "chek")
	check(exitUsage, `unknown command "foo" for "sheepgate completion"`, "completion", "foo")
	check(exitUsage, "--lines: -1 is less than 0", "tail", "-n", "-1")
	check(exitUsage, "is not a time like", "stats", "--from", "yesterday")
	check(exitUsage, "does not begin with http", "stats", "--url", "localhost:8080")
	check(exitFailed, "no such file", "import", "--ndjson", "/nonexistent")
	check(exitUsage, "unknown flag: --nope", "version", "--nope")
	check(exitUsage, `required flag(s) "ndjson" not set`, "import")
	check(exitUsage, "if any flags in the group [config url] are set", "export", "--config", "x", "--url", "http://h")
	check(exitConfig, `c.yaml:1:1: lisen: unknown key (did you mean "listen"?)`, "config", "check", "--config", broken)
	check(exitConfig, "unknown key", "config", "show", "--config", broken)
	check(exitConfig, "unknown key", "key", "reset-admin", "--config", broken)
	check(exitConfig, "no such file", "serve", "--config", "/nonexistent.yaml")
	check(exitConfig, "is a directory", "serve", "--config", "/")
	prices := write(t, "p.yaml", "prices: { overrides: /nonexistent.yaml }\n")
	check(exitConfig, "prices.overrides: open /nonexistent.yaml: no such file", "serve", "--config", prices)
	check(exitConfig, "prices.overrides: open /nonexistent.yaml: no such file", "config", "check", "--config", prices)
	check(exitFailed, "SHEEPGATE_ADMIN_KEY is not set", "stats")
	check(exitFailed, "SHEEPGATE_ADMIN_KEY is not set", "tail", "-n", "4")
}

// TestHelp: every command says what it is for, and nothing is coloured.
func TestHelp(t *testing.T) {
	var walk func(args ...string)
	walk = func(args ...string) {
		r := cli(t, nil, append(args, "--help")...)
		if r.code != exitOK || r.stderr != "" || strings.Contains(r.stdout, "\x1b") || !strings.Contains(r.stdout, "Usage:") || strings.HasPrefix(r.stdout, "Usage:") {
			t.Errorf("sheepgate %s --help: %+v", strings.Join(args, " "), r)
		}
		_, list, _ := strings.Cut(r.stdout, "Available Commands:\n")
		list, _, _ = strings.Cut(list, "\n\n")
		for _, line := range strings.Split(list, "\n") {
			if f := strings.Fields(line); len(f) > 0 && f[0] != "help" {
				if len(f) < 2 {
					t.Errorf("sheepgate %s: %s says nothing of itself", strings.Join(args, " "), f[0])
				}
				walk(append(slices.Clone(args), f[0])...)
			}
		}
	}
	walk()
}

// TestServeRefuses: a mistake in the configuration is named with its place,
// whatever it is, and no secret shows.
func TestServeRefuses(t *testing.T) {
	check := func(yaml string, messages ...string) {
		t.Helper()
		file := write(t, "c.yaml", yaml)
		r := cli(t, nil, "serve", "--config", file)
		if r.code != exitConfig || r.stdout != "" || strings.Contains(r.stderr, "hunter2") || len(r.stderr) > 2000 {
			t.Errorf("%.60q: %+v", yaml, r)
		}
		for _, m := range messages {
			if !strings.Contains(r.stderr, file+m) {
				t.Errorf("%.60q: %q lacks %q", yaml, r.stderr, m)
			}
		}
	}
	check("lisen: 127.0.0.1:0\n", `:1:1: lisen: unknown key (did you mean "listen"?)`)
	check("listen: [1]\n", ":1:9: listen: must be text, not a list")
	check("timeouts: { connect: 5x }\n", ":1:22: timeouts.connect: ")
	check("data: a\ndata: b\n", ":2:1: data: is there twice: first in line 1")
	check("providers: { openai: { key: env:X, base_url: 'ht!tp://x' } }\n", ":1:46: providers.openai.base_url: ", `:1:29: providers.openai.key: the environment variable "X" is not set`)
	check("models: { m: { use: nope/x } }\n", `:1:21: models.m.use: no provider "nope" is configured`)
	check("timeouts:\n\tconnect: 5s\n", ":2:1: not YAML: ")
	check("listen: *nope\n", ":1:9: listen: no anchor &nope stands before it")
	check("a: &a [*a]\n", ":1:1: a: unknown key")
	check("\x00\x01\x02", ":1:1: not text: the byte 0x00")
	check("listen: x\n"+strings.Repeat("k: 1\n", 9), ":1:9: listen: ", ":2:1: k: unknown key", ":10:1: k: is there twice")
	check("store: clickhouse://u:hunter2@h/db\n", ":1:8: store: clickhouse:// is not built into this version")
	check("state: postgres://u:hunter2@h/db\n", ":1:8: state: postgres:// is not built into this version")
	check("limits: redis://:hunter2@h\n", ":1:9: limits: redis:// is not built into this version")
	check("providers: { x: { type: openai, base_url: 'http://u:hunter2@h/v1' } }\n", ":1:43: providers.x.base_url: holds a user or a password")
	r := cli(t, nil, "serve", "--config", write(t, "c.yaml", "# "+strings.Repeat("x", 5<<20)))
	if r.code != exitConfig || !strings.Contains(r.stderr, "is longer than 4194304 bytes") {
		t.Errorf("a huge file: %+v", r)
	}
}

// TestServeCannotStart: what keeps a server from starting is one line.
func TestServeCannotStart(t *testing.T) {
	s := startTest(t, "")
	check := func(yaml, message string) {
		t.Helper()
		r := cli(t, nil, "serve", "--config", write(t, "c.yaml", yaml))
		if r.code != exitFailed || !strings.Contains(r.stderr, message) || strings.Contains(r.stderr, "panic") {
			t.Errorf("serve: %+v, want code 1 with %q", r, message)
		}
	}
	check(fmt.Sprintf("listen: %q\ndata: %q\n", strings.TrimPrefix(s.url, "http://"), t.TempDir()), "address already in use")
	file := write(t, "file", "")
	check(fmt.Sprintf("listen: 127.0.0.1:0\ndata: %q\n", file), "not a directory")
	check(fmt.Sprintf("listen: 127.0.0.1:0\ndata: %q\n", s.data), "another process")
}

func TestConfigCommands(t *testing.T) {
	path := write(t, "c.yaml", "providers:\n  deepseek: { key: sk-literal-secret }\nmodels: { m: { use: deepseek/deepseek-chat, strategy: latency } }\n")
	r := cli(t, nil, "config", "check", "--config", path)
	if r.code != exitOK || r.stdout != path+" is valid\n" || !strings.Contains(r.stderr, "warning: "+path+":2:20: providers.deepseek.key: a secret stands in the file") {
		t.Errorf("check: %+v", r)
	}
	r = cli(t, nil, "config", "show", "--config", path)
	if r.code != exitOK || strings.Contains(r.stdout, "sk-literal") || !strings.Contains(r.stdout, "base_url: https://api.deepseek.com/v1") {
		t.Errorf("show: %+v", r)
	}
	r = cli(t, nil, "config", "check", "--json", "--config", write(t, "d.yaml", "timezone: Mars\n"))
	var answer struct {
		Valid  bool
		Errors []config.Problem
	}
	if err := json.Unmarshal([]byte(r.stdout), &answer); err != nil || answer.Valid || len(answer.Errors) != 1 || answer.Errors[0].Column != 11 || r.code != exitConfig {
		t.Errorf("check --json: %+v, %v", r, err)
	}
	if r = cli(t, nil, "config", "schema"); r.stdout != string(config.Schema()) {
		t.Errorf("schema: %d bytes, want %d", len(r.stdout), len(config.Schema()))
	}
}

func TestInit(t *testing.T) {
	dir := t.TempDir()
	environ := []string{"ANTHROPIC_API_KEY=sk-a", "OPENAI_API_KEY="}
	if r := cli(t, environ, "init", "--dir", dir); r.code != exitOK {
		t.Fatalf("init: %+v", r)
	}
	file := filepath.Join(dir, "sheepgate.yaml")
	if r := cli(t, environ, "config", "check", "--config", file); r.code != exitOK || r.stderr != "" {
		t.Errorf("what init wrote: %+v", r)
	}
	c, _, err := config.Load(file, config.Options{Environ: environ, Known: known()})
	if err != nil || len(c.Providers) != 1 || c.Providers[0].Name != "anthropic" {
		t.Errorf("init wrote providers %+v, %v; want those whose variable is set", c, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "sheepgate.schema.json")); err != nil || !json.Valid(b) {
		t.Errorf("schema: %v", err)
	}
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := cli(t, environ, "init", "--dir", dir)
	if !strings.Contains(r.stderr, "is there already and stays as it is") {
		t.Errorf("a second init says %q", r.stderr)
	}
	if b, _ := os.ReadFile(file); r.code != exitFailed || string(b) != "mine" {
		t.Errorf("a second init: %+v, file %q", r, b)
	}
}

func TestPricesList(t *testing.T) {
	r := cli(t, nil, "prices", "list", "--provider", "openai", "gpt-4.1")
	if r.code != exitOK || !strings.Contains(r.stdout, "openai/gpt-4.1 ") || !strings.Contains(r.stdout, "$8") || strings.Contains(r.stdout, "anthropic/") {
		t.Errorf("prices list: %+v", r)
	}
	if r := cli(t, nil, "prices", "list", "deepseek-chat"); !strings.Contains(r.stdout, "by the hour") {
		t.Errorf("prices list of a price with hours: %+v", r)
	}
	var out struct{ Models []struct{ ID string } }
	if r := cli(t, nil, "prices", "list", "--json", "claude"); json.Unmarshal([]byte(r.stdout), &out) != nil || len(out.Models) == 0 {
		t.Errorf("prices list --json: %+v", r)
	}
}

// line is a Call of an import.
func line(t *testing.T, i int, at time.Time) string {
	t.Helper()
	c := call.Call{StartedAt: at, Key: "team-a", Ingress: "openai.chat", Provider: "openai", Model: []string{"gpt-4.1", "gpt-4.1-mini"}[i%2], Status: call.Success, HTTPStatus: 200,
		Latency: time.Duration(100+i) * time.Millisecond, Usage: llm.Usage{Source: llm.UsageUpstream, Input: 10, Output: 20}, Cost: llm.Nano(1000 * (1 + 3*(i%2)))}
	b, err := json.Marshal(&c)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(string(b), `"id":"",`, "", 1) + "\n"
}

func TestImportExportStopped(t *testing.T) {
	conf := write(t, "c.yaml", fmt.Sprintf("data: %q\nproviders: { ollama: }\n", t.TempDir()))
	var text strings.Builder
	at := time.Now().UTC().Add(-time.Hour).Truncate(time.Millisecond)
	for i := range 1500 {
		text.WriteString(line(t, i, at.Add(time.Duration(i)*time.Millisecond)))
	}
	file := write(t, "calls.ndjson", text.String())
	if r := cli(t, nil, "import", "--ndjson", file, "--config", conf); r.code != exitOK || r.stdout != "1500 calls added, 0 there already, 0 lines refused\n" {
		t.Fatalf("import: %+v", r)
	}
	if r := cli(t, nil, "import", "--ndjson", file, "--config", conf); r.stdout != "0 calls added, 1500 there already, 0 lines refused\n" {
		t.Errorf("second import: %+v", r)
	}
	r := cli(t, nil, "export", "--config", conf)
	if got := strings.Count(r.stdout, "\n"); r.code != exitOK || got != 1500 {
		t.Fatalf("export: code %d, %d lines, want 1500: %s", r.code, got, r.stderr)
	}
	other := write(t, "d.yaml", fmt.Sprintf("data: %q\nproviders: { ollama: }\n", t.TempDir()))
	if again := cli(t, nil, "import", "--ndjson", write(t, "e.ndjson", r.stdout), "--config", other); again.stdout != "1500 calls added, 0 there already, 0 lines refused\n" {
		t.Errorf("import of the export: %+v", again)
	}
	if again := cli(t, nil, "export", "--config", other); again.stdout != r.stdout {
		t.Error("the export of an imported export differs")
	}
	bad := write(t, "bad.ndjson", line(t, 0, at)+"{\"started_at\": 5}\n"+line(t, 1, at.Add(time.Hour/2)))
	if r := cli(t, nil, "import", "--ndjson", bad, "--config", other); r.code != exitFailed || !strings.Contains(r.stderr, "bad.ndjson:2: ") || !strings.Contains(r.stdout, "1 line refused") {
		t.Errorf("import with a bad line: %+v", r)
	}
}

func TestClientOfARunningServer(t *testing.T) {
	s := startTest(t, "providers: { ollama: }\n")
	environ := []string{"SHEEPGATE_URL=" + s.url, "SHEEPGATE_ADMIN_KEY=" + testAdmin}
	at := time.Now().UTC().Add(-time.Hour)
	var text strings.Builder
	for i := range 10 {
		text.WriteString(line(t, i, at.Add(time.Duration(i)*time.Second)))
	}
	if r := cli(t, environ, "import", "--json", "--ndjson", write(t, "c.ndjson", text.String())); r.code != exitOK || !strings.Contains(r.stdout, `"added": 10`) {
		t.Fatalf("import: %+v", r)
	}
	r := cli(t, environ, "stats", "--json")
	var out struct{ Models []modelStat }
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil || len(out.Models) != 2 {
		t.Fatalf("stats --json: %+v, %v", r, err)
	}
	for _, m := range out.Models {
		wantUSD, wantStars := 0.000001, 5
		if m.Model == "gpt-4.1-mini" {
			wantUSD, wantStars = 0.000004, 3
		}
		if m.Requests != 5 || *m.SuccessPct != 100 || math.Abs(*m.USDPerSuccess-wantUSD) > 1e-12 || *m.Stars != wantStars || m.LatencyAvgMS == nil || m.InputUSD == nil {
			t.Errorf("stats of %s = %+v", m.Model, m)
		}
	}
	if r := cli(t, environ, "stats"); r.code != exitOK || !strings.Contains(r.stdout, "USD/SUCCESS") || !strings.Contains(r.stdout, "*****") || strings.Contains(r.stdout, "\x1b") {
		t.Errorf("stats: %+v", r)
	}
	if r := cli(t, environ, "export", "--from", "-2h"); strings.Count(r.stdout, "\n") != 10 {
		t.Errorf("export: %+v", r)
	}
	if r := cli(t, environ, "export", "--from", "2020-01-01", "--to", "2020-01-02"); r.code != exitOK || r.stdout != "" {
		t.Errorf("export of nothing: %+v", r)
	}
	if r := cli(t, []string{"SHEEPGATE_ADMIN_KEY=wrong"}, "stats", "--url", s.url); r.code != exitFailed || !strings.Contains(r.stderr, "401") || strings.Contains(r.stderr, "wrong") {
		t.Errorf("wrong key: %+v", r)
	}
	if r := cli(t, environ, "stats", "--url", "http://127.0.0.1:1"); r.code != exitFailed || !strings.Contains(r.stderr, "is `sheepgate serve` running there?") {
		t.Errorf("no server: %+v", r)
	}
}

func TestResetAdmin(t *testing.T) {
	conf := write(t, "c.yaml", fmt.Sprintf("data: %q\n", t.TempDir()))
	first := cli(t, nil, "key", "reset-admin", "--config", conf)
	second := cli(t, nil, "key", "reset-admin", "--config", conf)
	if first.code != exitOK || len(strings.TrimSpace(first.stdout)) < 40 || first.stdout == second.stdout {
		t.Errorf("reset-admin: %+v, then %+v", first, second)
	}
	r := cli(t, []string{"SHEEPGATE_ADMIN_KEY=" + testAdmin}, "key", "reset-admin", "--config", conf)
	if r.code != exitFailed || !strings.Contains(r.stderr, "the configuration sets admin_key") {
		t.Errorf("reset-admin of a configured key: %+v", r)
	}
}

func TestStars(t *testing.T) {
	usd := func(f float64) *float64 { return &f }
	stats := []modelStat{{USDPerSuccess: usd(2.5)}, {USDPerSuccess: usd(8)}, {USDPerSuccess: usd(15)}, {USDPerSuccess: usd(500)}, {}, {USDPerSuccess: usd(0)}}
	rate5(stats)
	for i, want := range []int{5, 3, 2, 1} {
		if got := *stats[i].Stars; got != want {
			t.Errorf("stars of $%v = %d, want %d", *stats[i].USDPerSuccess, got, want)
		}
	}
	if stats[4].Stars != nil || *stats[5].Stars != 5 {
		t.Errorf("stars without a cost %v, of what is free %v", stats[4].Stars, stats[5].Stars)
	}
}

func TestFollow(t *testing.T) {
	one := strings.TrimSpace(line(t, 0, time.Now()))
	stream := "id: 1\ndata: {\"calls\":[" + one + "," + one + "]}\n\n: beat\n\ndata: {\"calls\":[]}\n\n"
	var out bytes.Buffer
	if err := follow(t.Context(), &out, strings.NewReader(stream), 1, true); err != nil || out.String() != one+"\n" {
		t.Errorf("follow: %q, %v; want the one call", out.String(), err)
	}
	out.Reset()
	err := follow(t.Context(), &out, strings.NewReader(stream), 0, false)
	if err == nil || strings.Count(out.String(), "openai/gpt-4.1 ") != 2 || !strings.Contains(out.String(), "$0.000001") {
		t.Errorf("follow: %q, %v; want two lines and the end of the stream as an error", out.String(), err)
	}
}
