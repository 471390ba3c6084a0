package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/config"
	"github.com/sheepgate/sheepgate/internal/console"
	"github.com/sheepgate/sheepgate/internal/price"
)

const priceFile = `version: "2026-12-01"
sources: {vendor: {date: "2026-11-30"}}
models:
- provider: openai
  id: gpt-4.1
  source: vendor
  rows:
  - rates: {input: 4, output: 16}
- provider: local
  id: qwen
  rows:
  - rates: {input: 1, output: 1}
`

// TestPricesInstalled: a file that is installed in the data folder of a stopped
// server is what the next start, a list and a recompute go by; overrides come
// before it; one that is damaged is set aside, named, and the built-in prices
// count.
func TestPricesInstalled(t *testing.T) {
	data := t.TempDir()
	own := write(t, "own.yaml", "models: [{provider: openai, id: gpt-4.1-mini, rows: [{rates: {input: 9, output: 9}}]}]")
	conf := write(t, "sheepgate.yaml", fmt.Sprintf("listen: 127.0.0.1:0\ndata: %q\nadmin_key: %s\nprices: { overrides: %q }\n", data, testAdmin, own))
	file := write(t, "prices.yaml", priceFile)
	ok := func(args ...string) string {
		t.Helper()
		r := cli(t, nil, args...)
		if r.code != exitOK || strings.Contains(r.stderr, "error") {
			t.Fatalf("sheepgate %s: %+v", strings.Join(args, " "), r)
		}
		return r.stdout
	}
	has := func(text string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%q is not in\n%s", w, text)
			}
		}
	}
	now := time.Now().UTC().Truncate(time.Second)
	lines := ""
	for i := range 6 {
		lines += line(t, i, now.Add(-time.Duration(i+1)*time.Minute)) + "\n"
	}
	ok("import", "--config", conf, "--ndjson", write(t, "calls.ndjson", lines))

	bad := write(t, "bad.yaml", strings.Replace(priceFile, "input: 4", "inptu: 4", 1))
	if r := cli(t, nil, "prices", "update", "--config", conf, bad); r.code != exitFailed || !strings.Contains(r.stderr, bad+":8:12: models[0].rows[0].rates: input is missing\n") || !strings.Contains(r.stderr, bad+" is not valid: 2 mistakes") {
		t.Errorf("a bad file: %+v", r)
	}
	has(ok("prices", "update", "--config", conf, "--dry-run", file), "changed  openai/gpt-4.1  standard/1", "input $2 -> $4, output $8 -> $16", "removed  openai/gpt-4.1  batch/1", "added    local/qwen", "this was a dry run")
	if _, err := os.Stat(filepath.Join(data, "prices.json")); !os.IsNotExist(err) {
		t.Errorf("a dry run left a file: %v", err)
	}
	has(ok("prices", "update", "--config", conf, file), "1 row added, 1 changed, 2 removed; installed")
	has(ok("prices", "update", "--config", conf, file), "0 rows added, 0 changed, 0 removed; installed")
	has(ok("prices", "list", "--config", conf, "--provider", "openai", "gpt-4.1"), "ORIGIN", "$4", "installed  2026-11-30  vendor", "user/standard/1  overrides", "built-in   2026-09-23  genai-prices@0.1.8")
	var list bytes.Buffer
	list.WriteString(ok("prices", "list", "--config", conf, "--json"))
	if c, err := price.Parse(list.Bytes()); err != nil || len(c.Models()) < 50 {
		t.Errorf("what the list prints is no price file: %v", err)
	}

	// 10 in and 20 out: 360,000 each by the new row; the mini is the user's own.
	recompute := func(args ...string) (r console.Recomputed) {
		t.Helper()
		out := ok(append([]string{"prices", "recompute", "--config", conf, "--from", "-1h", "--json"}, args...)...)
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := recompute("--dry-run"); r.Total.Changed != 6 || r.Total.Old != 3*1000+3*4000 || r.Total.New != 3*360_000+3*270_000 || r.Catalogue != "2026-12-01" {
		t.Errorf("a dry run: %+v", r)
	}
	if r := recompute("--model", "gpt-4.1", "--provider", "openai"); r.Total.Changed != 3 || len(r.Models) != 1 || r.Models[0].Delta != 3*360_000-3*1000 {
		t.Errorf("one model: %+v", r)
	}
	if r := recompute("--unpriced"); r.Total.Calls != 0 {
		t.Errorf("unpriced: %+v", r)
	}
	has(ok("prices", "recompute", "--config", conf, "--from", "-1h"), "openai/gpt-4.1-mini      3        3", "1080000", "+798000", "3 calls changed: $0.001092")

	// Through a server: the same, and what is installed counts at once.
	s := serveFile(t, conf)
	env := []string{"SHEEPGATE_ADMIN_KEY=" + testAdmin, "SHEEPGATE_URL=" + s.url}
	remote := func(args ...string) string {
		t.Helper()
		r := cli(t, env, args...)
		if r.code != exitOK || r.stderr != "" {
			t.Fatalf("sheepgate %s: %+v", strings.Join(args, " "), r)
		}
		return r.stdout
	}
	if r := cli(t, nil, "prices", "update", "--config", conf, file); r.code != exitFailed || !strings.Contains(r.stderr, "while a server runs, leave --config out") {
		t.Errorf("beside a server: %+v", r)
	}
	dearer := write(t, "dearer.yaml", strings.Replace(priceFile, "input: 4, output: 16", "input: 5, output: 20", 1))
	has(remote("prices", "update", dearer), "input $4 -> $5", "installed")
	if c, _ := s.current.Load().Prices.Find("openai", "gpt-4.1"); c.Row("", now).Rates["input"] != 5e9 {
		t.Error("what was installed does not count")
	}
	has(remote("prices", "list", "--url", s.url, "gpt-4.1"), "$5", "user/standard/1")
	if here, there := ok("prices", "list", "--config", conf), remote("prices", "list", "--url", s.url); here != there {
		t.Errorf("the server lists\n%s\nand its folder\n%s", there, here)
	}
	has(remote("prices", "recompute", "--from", "-1h"), "3 calls changed: $0.001890000 -> $0.002160000")
	res, body := s.do(t, "POST", "/api/v1/query", testAdmin, strings.NewReader(fmt.Sprintf(`{"from":%q,"to":%q,"measures":["cost_nano_usd"]}`, now.Add(-time.Hour).Format(time.RFC3339), now.Add(time.Hour).Format(time.RFC3339))))
	if res.StatusCode != 200 || !strings.Contains(string(body), `"total":[2160000]`) {
		t.Errorf("a query: %s", body)
	}
	if err := s.apply(context.Background(), mustLoad(t, conf)); err != nil {
		t.Fatal(err)
	}
	if c, _ := s.current.Load().Prices.Find("openai", "gpt-4.1"); c.Row("", now).Rates["input"] != 5e9 {
		t.Error("a configuration that is read again forgets what was installed")
	}
	if err := s.close(t.Context()); err != nil {
		t.Fatal(err)
	}

	// A bit falls out.
	kept := filepath.Join(data, "prices.json")
	b, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(kept, bytes.Replace(b, []byte("input: 5"), []byte("input: 1"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	for try := range 2 { // and it is told at every start until it is settled
		s = serveFile(t, conf)
		if c, _ := s.current.Load().Prices.Find("openai", "gpt-4.1"); c.Row("", now).Rates["input"] != 2e9 {
			t.Error("a damaged file counts")
		}
		_, body = s.do(t, "GET", "/readyz", testAdmin, nil)
		has(string(body), `"status":"ok"`, "prices: the installed prices", "the built-in ones count")
		aside, _ := filepath.Glob(kept + ".*.quarantine")
		if _, err := os.Stat(kept); !os.IsNotExist(err) || len(aside) != 1 {
			t.Errorf("start %d: it is not set aside: %v, %v", try, err, aside)
		}
		if try == 1 {
			env[1] = "SHEEPGATE_URL=" + s.url
			remote("prices", "update", file)
			if _, body = s.do(t, "GET", "/readyz", testAdmin, nil); !strings.Contains(string(body), `"degraded":[]`) {
				t.Errorf("after an update: %s", body)
			}
		}
		if err := s.close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	// A kill while it is written leaves the one before.
	if err := os.WriteFile(kept+".new", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	has(ok("prices", "list", "--config", conf, "openai/gpt-4.1"), "$4")
	archive := filepath.Join(t.TempDir(), "backup")
	ok("backup", "--config", conf, archive)
	back := filepath.Join(t.TempDir(), "data")
	conf2 := write(t, "back.yaml", "data: "+strconv.Quote(back)+"\n")
	ok("restore", "--config", conf2, archive)
	has(ok("prices", "list", "--config", conf2, "openai/gpt-4.1"), "$4")
	if _, err := os.Stat(filepath.Join(back, "prices.json.new")); !os.IsNotExist(err) {
		t.Errorf("half a file is in a backup: %v", err)
	}
	has(ok("prices", "update", "--config", conf, dearer), "installed")
}

func mustLoad(t *testing.T, file string) *config.Config {
	t.Helper()
	c, _, err := config.Load(file, config.Options{Known: known()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestModels: the table of a server's models.
func TestModels(t *testing.T) {
	s := startTest(t, "providers: { openai: { key: k-0123456789 }, local: { type: openai, base_url: http://127.0.0.1:1/v1 } }\nmodels: { smart: { use: [openai/gpt-4.1, local/qwen] } }\n")
	env := []string{"SHEEPGATE_ADMIN_KEY=" + testAdmin, "SHEEPGATE_URL=" + s.url}
	in := write(t, "calls.ndjson", line(t, 0, time.Now().Add(-time.Minute).UTC())+"\n"+line(t, 1, time.Now().Add(-time.Minute).UTC())+"\n")
	if r := cli(t, env, "import", "--ndjson", in); r.code != exitOK {
		t.Fatalf("import: %+v", r)
	}
	r := cli(t, env, "models")
	rows := map[string]string{}
	for _, l := range strings.Split(r.stdout, "\n") {
		if f := strings.Fields(l); len(f) > 0 {
			rows[f[0]] = strings.Join(f[1:], " ")
		}
	}
	for name, want := range map[string]string{
		"openai/gpt-4.1":      "smart $2 $8 $0.5 1000000 32768 2026-09-23 genai-prices@0.1.8 1 100 ms 100 ms 100.0 % $0.000001 *****",
		"openai/gpt-4.1-mini": "- $0.4 $1.6 $0.1 1000000 32768 2026-09-23 genai-prices@0.1.8 1 101 ms 100 ms 100.0 % $0.000004 ***",
		"local/qwen":          "smart - - - - - - - 0 - - - - -",
	} {
		if rows[name] != want {
			t.Errorf("%s: %q, want %q", name, rows[name], want)
		}
	}
	if strings.Contains(r.stdout, "anthropic/") || r.code != exitOK {
		t.Errorf("models: %+v", r)
	}
	if r := cli(t, env, "models", "--json"); r.code != exitOK || !strings.Contains(r.stdout, `"stars": 5`) {
		t.Errorf("models --json: %+v", r)
	}
}
