package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var known = []KnownProvider{
	{"openai", "https://api.openai.com/v1", "OPENAI_API_KEY"},
	{"anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY"},
	{"gemini", "https://generativelanguage.googleapis.com", "GEMINI_API_KEY"},
	{"deepseek", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"},
	{"sim", "http://sim", ""},
}

var environ = []string{
	"OPENAI_API_KEY=sk-openai", "ANTHROPIC_API_KEY=sk-ant", "GEMINI_API_KEY=sk-gem", "DEEPSEEK_API_KEY=sk-deep",
	"TEAM_A_KEY=team-a-key-0123456789", "METRICS_KEY=metrics-key-0123456789", "HOME=/root",
}

// contractExample is the example of the public contract, word for word.
const contractExample = `# yaml-language-server: $schema=./sheepgate.schema.json
listen: 127.0.0.1:8080
data: ./data                      # everything durable; copy it = backup
store: file:./data                # or clickhouse://…    state: postgres://…    limits: redis://…
admin_key: env:SHEEPGATE_ADMIN_KEY   # absent: made at the first start, shown once, only its digest kept
timezone: UTC                        # what a day, a month and a budget's period mean
providers:
  openai:    { key: env:OPENAI_API_KEY }
  anthropic: { key: env:ANTHROPIC_API_KEY }
  gemini:    { key: env:GEMINI_API_KEY }
  deepseek:  { key: env:DEEPSEEK_API_KEY }
  local:     { type: openai, base_url: http://127.0.0.1:11434/v1 }
models:                           # aliases; optional
  fast:    { use: [gemini/gemini-2.5-flash, deepseek/deepseek-chat], strategy: fallback }
  smart:   { use: [anthropic/claude-sonnet-4-5, openai/gpt-4.1], strategy: latency }
  gpt-4.1: { use: openai/gpt-4.1, limits: { rpm: 500, tpm: 300k } }
keys:
  team-a: { key: env:TEAM_A_KEY, team: search, models: [fast, smart], budget: $200/month, limits: { rpm: 60, tpm: 100k, concurrent: 20 } }
  grafana: { key: env:METRICS_KEY, metrics: true }      # may read /v1/metrics and nothing else
retention: { calls: 90d, bodies: 7d, disk: 20GiB }
privacy:   { bodies: off }        # off | redacted | full
retry:     { attempts: 3, on: [429, 5xx, timeout, connect] }
timeouts:  { connect: 5s, first_token: 60s, idle: 60s, total: 10m }
prices:    { overrides: ./prices.yaml }    # dated rows of the user's own
`

func parse(t *testing.T, text string, env ...string) (*Config, []Problem) {
	t.Helper()
	c, warnings, err := Parse("f.yaml", []byte(text), Options{Environ: slices.Concat(environ, env), Known: known})
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return c, warnings
}

func TestContractExample(t *testing.T) {
	c, warnings := parse(t, contractExample)
	var got []string
	for _, p := range c.Providers {
		got = append(got, p.Name+" "+p.Type+" "+p.BaseURL+" "+p.Key.Value())
	}
	want := []string{
		"openai openai https://api.openai.com/v1 sk-openai",
		"anthropic anthropic https://api.anthropic.com sk-ant",
		"gemini gemini https://generativelanguage.googleapis.com sk-gem",
		"deepseek deepseek https://api.deepseek.com/v1 sk-deep",
		"local openai http://127.0.0.1:11434/v1 ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("providers = %q, want %q", got, want)
	}
	if got, want := fmt.Sprint(c.Models[0].Use), "[gemini/gemini-2.5-flash deepseek/deepseek-chat]"; got != want {
		t.Errorf("fast uses %s, want %s", got, want)
	}
	if got, want := c.Models[2], (Limits{RPM: 500, TPM: 300_000}); got.Name != "gpt-4.1" || got.Limits != want || got.Strategy != "fallback" {
		t.Errorf("models[2] = %+v, want limits %+v and strategy fallback", got, want)
	}
	k := c.Keys[0]
	if k.Name != "team-a" || k.Key.Value() != "team-a-key-0123456789" || k.Team != "search" || !slices.Equal(k.Models, []string{"fast", "smart"}) ||
		!slices.Equal(k.Budget, []Budget{{200e9, "month"}}) || k.Limits != (Limits{RPM: 60, TPM: 100_000, Concurrent: 20}) || k.Metrics {
		t.Errorf("keys[0] = %+v", k)
	}
	if !c.Keys[1].Metrics {
		t.Error("grafana has no metrics")
	}
	if c.Retention != (Retention{90 * Day, 7 * Day, 20 << 30}) || c.Retry.Attempts != 3 || !slices.Equal(c.Retry.On, []string{"429", "5xx", "timeout", "connect"}) {
		t.Errorf("retention %+v, retry %+v", c.Retention, c.Retry)
	}
	if time.Duration(c.Timeouts.Total) != 10*time.Minute || c.Privacy.Bodies != "off" || c.Prices.Overrides != "./prices.yaml" || c.Timezone.String() != "UTC" {
		t.Errorf("timeouts %v, privacy %v, prices %v, timezone %v", c.Timeouts, c.Privacy, c.Prices, c.Timezone)
	}
	var ws []string
	for _, w := range warnings {
		ws = append(ws, w.String())
	}
	wantWarnings := []string{
		"f.yaml:5:12: admin_key: SHEEPGATE_ADMIN_KEY is not set: the generated admin key applies",
	}
	if !slices.Equal(ws, wantWarnings) {
		t.Errorf("warnings:\n%s\nwant:\n%s", strings.Join(ws, "\n"), strings.Join(wantWarnings, "\n"))
	}
}

func TestMistakes(t *testing.T) {
	bad := func(text string, want ...string) {
		t.Helper()
		_, _, err := Parse("f.yaml", []byte(text), Options{Environ: environ, Known: known})
		var ps Problems
		if !errors.As(err, &ps) {
			t.Errorf("Parse(%q): error %v, want Problems", text, err)
			return
		}
		if got, want := ps.Error(), strings.Join(want, "\n"); got != want {
			t.Errorf("Parse(%q):\n%s\nwant:\n%s", text, got, want)
		}
	}
	// keys
	bad("lisen: 127.0.0.1:1\n", `f.yaml:1:1: lisen: unknown key (did you mean "listen"?)`)
	bad("providers:\n  openai:\n    api_key: env:OPENAI_API_KEY\n", `f.yaml:3:5: providers.openai.api_key: unknown key: expected "type", "base_url", "key", "keys", "limits" or "probe"`)
	bad("timeouts: { conect: 5s }\n", `f.yaml:1:13: timeouts.conect: unknown key (did you mean "connect"?)`)
	bad("data: a\ndata: b\n", "f.yaml:2:1: data: is there twice: first in line 1")
	bad("models:\n  a: { use: sim/x }\n  a: { use: sim/y }\nproviders: { sim: }\n", "f.yaml:3:3: models.a: is there twice: first in line 2")
	bad("x: &a {}\n<<: *a\n", "f.yaml:1:1: x: unknown key", "f.yaml:2:1: merge keys (<<) are not supported: write the keys out")
	// form
	bad("listen: [\n", "f.yaml:1:9: not YAML: sequence end token ']' not found")
	bad("listen: x\nlimits: \"\x00\"\n", "f.yaml:2:10: not text: the byte 0x00; the file is YAML in UTF-8")
	bad("# é\xff\n", "f.yaml:1:4: not text: the byte 0xff; the file is YAML in UTF-8")
	bad("\xff\xfel\x00i\x00", "f.yaml:1:1: not text: the byte 0xff; the file is YAML in UTF-8")
	bad("timeouts:\n\tconnect: 5s\n", "f.yaml:2:1: not YAML: found character ' ' that cannot start any token")
	bad("listen: a\n---\nlisten: b\n", "f.yaml:3:1: a second YAML document: the configuration is one")
	bad("- a\n", "f.yaml:1:1: must be a section of keys, not a list")
	bad("hello\n", "f.yaml:1:1: must be a section of keys, not a single value")
	bad("retention: 90d\n", "f.yaml:1:12: retention: must be a section of keys, not a single value")
	bad("listen: { a: b }\n", "f.yaml:1:9: listen: must be text, not a section")
	bad("keys: { a: { key: literal-key-0123456789, metrics: yes } }\n", `f.yaml:1:52: keys.a.metrics: "yes" is not true or false`)
	bad("retry: { attempts: many }\n", `f.yaml:1:20: retry.attempts: "many" is not a whole number`)
	bad("retry: { attempts: 11, on: [404, 5x] }\n", "f.yaml:1:20: retry.attempts: must be from 1 to 10",
		"f.yaml:1:29: retry.on[0]: status 404 is not tried again: 408, 409, 425, 429 and 500 to 599 can be",
		`f.yaml:1:34: retry.on[1]: "5x" is not a status, "timeout", "connect" or "5xx" (did you mean "5xx"?)`)
	// values
	bad("timeouts: { total: 600 }\n", `f.yaml:1:20: timeouts.total: "600" has no unit: write 600s, 600m, 600h or 600d`)
	bad("timeouts: { total: 10min }\n", `f.yaml:1:20: timeouts.total: "10min" is not a duration like 5s, 10m, 1h30m or 90d`)
	bad("timeouts: { idle: 0s }\n", "f.yaml:1:19: timeouts.idle: must be more than 0")
	bad("timeouts: { idle: -5s }\n", `f.yaml:1:19: timeouts.idle: "-5s" is not a duration like 5s, 10m, 1h30m or 90d`)
	bad("retention: { calls: 200y }\n", `f.yaml:1:21: retention.calls: "200y" is not a duration like 5s, 10m, 1h30m or 90d`)
	bad("retention: { disk: 20 gigs }\n", `f.yaml:1:20: retention.disk: "20 gigs" is not a size like 20GiB or 500MB`)
	bad("models: { a: { use: openai/x, limits: { rpm: fast } } }\nproviders: { openai: }\n", `f.yaml:1:46: models.a.limits.rpm: "fast" is not a number like 60, 300k or 2M`)
	bad("models: { a: { use: openai/x, limits: { rpm: 0.5 } } }\nproviders: { openai: }\n", `f.yaml:1:46: models.a.limits.rpm: "0.5" is not a whole number from 1 to 10^15`)
	bad("keys: { a: { key: env:TEAM_A_KEY, budget: 200 } }\n", `f.yaml:1:43: keys.a.budget: "200" is not an amount of dollars in a period like $200/month`)
	bad("keys: { a: { key: env:TEAM_A_KEY, budget: $200/mont } }\n", `f.yaml:1:43: keys.a.budget: "mont" is not a period: write day, week, month or total (did you mean "month"?)`)
	bad("timezone: Asia/Soul\n", `f.yaml:1:11: timezone: "Asia/Soul" is not a time zone like UTC, Asia/Seoul or Europe/Berlin`)
	bad("privacy: { bodies: redact }\n", `f.yaml:1:20: privacy.bodies: "redact" is not "off", "redacted" or "full" (did you mean "redacted"?)`)
	bad("listen: localhost\n", `f.yaml:1:9: listen: "localhost" is not an address like 127.0.0.1:8080`)
	bad("listen: localhost:99999\n", `f.yaml:1:9: listen: "99999" is not a port from 0 to 65535`)
	bad("debug: :6060\n", `f.yaml:1:8: debug: ":6060" is not a loopback address like 127.0.0.1:6060: profiles show what is in memory`)
	// engines
	bad("store: clickhouse://h/db\n", "f.yaml:1:8: store: clickhouse:// is not built into this version: write file:./data")
	bad("state: postgres://h/db\n", "f.yaml:1:8: state: postgres:// is not built into this version: write file:./data")
	bad("limits: redis://h\n", "f.yaml:1:9: limits: redis:// is not built into this version: leave the key out")
	bad("store: mongodb://h\n", `f.yaml:1:8: store: "mongodb://h" is no engine of this version: write file:./data`)
	// providers
	bad("providers:\n  opnai: { key: env:OPENAI_API_KEY }\n", `f.yaml:2:3: providers.opnai: unknown provider (did you mean "openai"?): a provider of your own needs a type, e.g. type: openai`)
	bad("providers: { x: { type: opnai, base_url: http://h } }\n", `f.yaml:1:25: providers.x.type: unknown type "opnai" (did you mean "openai"?): expected "openai", "anthropic", "gemini", "deepseek" or "sim"`)
	bad("providers: { x: { type: openai, base_url: localhost:11434 } }\n", `f.yaml:1:43: providers.x.base_url: "localhost:11434" is not a URL like https://api.example.com/v1`)
	bad("providers: { x: { type: openai, base_url: 'http://u:secret@h/v1' } }\n", "f.yaml:1:43: providers.x.base_url: holds a user or a password: write it as key")
	bad("providers: { openai: { key: env:NOPE } }\n", `f.yaml:1:29: providers.openai.key: the environment variable "NOPE" is not set`)
	bad("providers: { openai: { key: 'file:/nonexistent/k' } }\n", "f.yaml:1:29: providers.openai.key: the secret cannot be read: stat /nonexistent/k: no such file or directory")
	bad("providers: { openai: { key: $OPENAI_API_KEY } }\n", "f.yaml:1:29: providers.openai.key: variables are not expanded: write env:NAME")
	// aliases and keys
	bad("providers: { openai: }\nmodels:\n  a:\n    use:\n      - openia/gpt-4.1\n", `f.yaml:5:9: models.a.use[0]: no provider "openia" is configured (did you mean "openai"?)`)
	bad("providers: { openai: }\nmodels: { a: { use: gpt-4.1 } }\n", `f.yaml:2:21: models.a.use: "gpt-4.1" is not written as provider/model`)
	bad("providers: { openai: }\nmodels: { a: { } }\n", "f.yaml:2:14: models.a: use is missing: name at least one provider/model")
	bad("providers: { openai: }\nmodels: { a: { use: openai/x, strategy: random } }\n", `f.yaml:2:41: models.a.strategy: "random" is not "fallback", "latency", "price", "weights" or "headroom"`)
	bad("providers: { openai: }\nmodels: { a: { use: [openai/x, openai/x] } }\n", `f.yaml:2:32: models.a.use[1]: "openai/x" is there twice`)
	bad("keys: { a: { team: x } }\n", "f.yaml:1:12: keys.a: key is missing: write key: env:NAME")
	bad("keys: { a: { key: env:TEAM_A_KEY }, b: { key: env:TEAM_A_KEY } }\n", "f.yaml:1:47: keys.b.key: is the same as keys.a.key")
	bad("keys: { a: { key: env:TEAM_A_KEY, models: [opnai/x] } }\nproviders: { openai: }\n", `f.yaml:1:44: keys.a.models[0]: no provider "opnai" is configured (did you mean "openai"?)`)
	// nesting that the parser would take all memory for
	for _, text := range []string{"a: " + strings.Repeat("[", 1<<20), "a: " + strings.Repeat("{b: ", 1<<18), strings.Repeat("- ", 1<<20), strings.Repeat("? ", 1<<20), "a: " + strings.Repeat("&a ", 1<<19)} {
		bad(text, "f.yaml:1:1: not YAML: nested too deeply")
	}
	var steps strings.Builder
	for i := range 3000 {
		steps.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	bad(steps.String(), "f.yaml:1:1: not YAML: nested too deeply")
	// limits and budgets
	bad("keys: { a: { key: env:TEAM_A_KEY, budget: -$5/day } }\n", `f.yaml:1:43: keys.a.budget: "-$5/day" is not an amount of dollars in a period like $200/month`)
	bad("keys: { a: { key: env:TEAM_A_KEY, budget: $0/day } }\n", "f.yaml:1:43: keys.a.budget: the amount must be more than $0 and at most $1000000000")
	bad("keys: { a: { key: env:TEAM_A_KEY, budget: $99999999999/day } }\n", "f.yaml:1:43: keys.a.budget: the amount must be more than $0 and at most $1000000000")
	bad("keys: { a: { key: env:TEAM_A_KEY, budget: [$5/day, $9/day] } }\n", "f.yaml:1:43: keys.a.budget: has two amounts for a day")
	bad("keys: { a: { key: env:TEAM_A_KEY, limits: { concurrent: -1 } } }\n", `f.yaml:1:57: keys.a.limits.concurrent: "-1" is not a number like 60, 300k or 2M`)
	bad("teams: { x: { limits: { rps: 1 } } }\n", `f.yaml:1:25: teams.x.limits.rps: unknown key (did you mean "rpm"?)`)
	bad("rules: { x: { key: a } }\n", "f.yaml:1:13: rules.x: has neither limits nor a budget", "f.yaml:1:13: rules.x: is about one name alone: write its limits where the name is")
	bad("providers: { openai: }\nmodels: { m: { use: openai/x } }\nrules: { x: { model: m, limits: { rpm: 1 } } }\n", "f.yaml:3:13: rules.x: is about one alias alone: write its limits where the alias is")
	bad("providers: { openai: }\nmodels: { m: { use: openai/x } }\nrules: { x: { model: m, provider: opnai, limits: { rpm: 1 } } }\n",
		"f.yaml:3:13: rules.x: the alias \"m\" has models at any provider: name the model", `f.yaml:3:35: rules.x.provider: no provider "opnai" is configured (did you mean "openai"?)`)
	bad("rules:\n  x: { key: a, model: g, limits: { rpm: 1 } }\n  y: { key: a, model: g, budget: $1/day }\n", "f.yaml:3:6: rules.y: is about the same calls as rules.x: write one")
	bad("providers: { openai: { keys: { a: { key: env:OPENAI_API_KEY }, b: { key: env:OPENAI_API_KEY }, c: } } }\n", "f.yaml:1:74: providers.openai.keys.b.key: is the same as providers.openai.keys.a", "f.yaml:1:98: providers.openai.keys.c: key is missing: write key: env:NAME")
	bad("providers: { openai: { key: env:OPENAI_API_KEY, keys: { a: { key: env:TEAM_A_KEY } } } }\n", "f.yaml:1:22: providers.openai: has key and keys: write all of them as keys")
	bad("providers: { openai: }\nmodels: { a: { use: openai/x, strategy: weights, weights: [0] } }\n", "f.yaml:2:59: models.a.weights: are all 0: nobody would be asked")
	// several at once, in the order of the file
	bad("listn: x\ntimezone: Mars\nretry: { attempts: 0 }\n", `f.yaml:1:1: listn: unknown key (did you mean "listen"?)`,
		`f.yaml:2:11: timezone: "Mars" is not a time zone like UTC, Asia/Seoul or Europe/Berlin`, "f.yaml:3:20: retry.attempts: must be from 1 to 10")
}

func TestWarnings(t *testing.T) {
	warns := func(text string, want ...string) {
		t.Helper()
		_, warnings := parse(t, "providers: { openai: }\n"+text, "SHEEPGATE_LISTENN=x", "SHEEPGATE_URL=http://h")
		var got []string
		for _, w := range warnings {
			got = append(got, w.String())
		}
		want = append([]string{`environment: SHEEPGATE_LISTENN: sets no key of the configuration (did you mean "SHEEPGATE_LISTEN"?)`}, want...)
		if !slices.Equal(got, want) {
			t.Errorf("%q warns:\n%s\nwant:\n%s", text, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	warns("listen: :8080\n", "f.yaml:2:9: listen: :8080 can be reached from other machines, without encryption: put a TLS proxy before it")
	warns("listen: '[::1]:8080'\n")
	warns("data: d\nstore: file:./d/\n")
	warns("data: d\nstore: file:./e\n")
	warns("data: d\nstate: file:./e\n", "f.yaml:3:8: state: a folder apart from data is not supported by this version: data is used")
	warns("keys: { a: { key: short } }\n", "f.yaml:2:19: keys.a.key: a secret stands in the file: write env:NAME or file:PATH",
		"f.yaml:2:19: keys.a.key: is shorter than 16 characters and can be guessed")
	warns("alerts:\n  - anything: { goes: here }\n", "f.yaml:3:3: alerts: is not enforced by this version")
	warns("models: { fast: { use: openai/x } }\nkeys: { a: { key: env:TEAM_A_KEY, models: [fats] } }\n", `f.yaml:3:44: keys.a.models[0]: no alias "fats" (did you mean "fast"?)`)
}

func TestEnvironment(t *testing.T) {
	c, warnings, err := Load("", Options{Known: known, Environ: []string{
		"GEMINI_API_KEY=g", "OPENAI_API_KEY=o", "DEEPSEEK_API_KEY=",
		"SHEEPGATE_LISTEN=127.0.0.1:0", "SHEEPGATE_ADMIN_KEY=admin-key-0123456789", "SHEEPGATE_RETENTION_CALLS=30d", "SHEEPGATE_RETRY_ON=429, 503",
		"SHEEPGATE_PROVIDERS_LOCAL_TYPE=openai", "SHEEPGATE_PROVIDERS_LOCAL_BASE_URL=http://127.0.0.1:11434/v1",
		"SHEEPGATE_KEYS_TEAM_A_KEY=team-key-0123456789", "SHEEPGATE_KEYS_TEAM_A_MODELS=fast,openai/gpt-4.1", "SHEEPGATE_MODELS_FAST_USE=openai/gpt-4.1",
		"SHEEPGATE_TIMEOUTS_FIRST_TOKEN=90s",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 0 {
		t.Errorf("warnings %v, want none", warnings)
	}
	if got, want := strings.Join(providerNames(c), " "), "openai gemini local"; got != want {
		t.Errorf("providers = %s, want %s", got, want)
	}
	if c.Listen != "127.0.0.1:0" || c.AdminKey.Value() != "admin-key-0123456789" || c.Retention.Calls != 30*Day || !slices.Equal(c.Retry.On, []string{"429", "503"}) || time.Duration(c.Timeouts.FirstToken) != 90*time.Second {
		t.Errorf("config = %+v", c)
	}
	if len(c.Keys) != 1 || c.Keys[0].Name != "team-a" || c.Keys[0].Key.Value() != "team-key-0123456789" || !slices.Equal(c.Keys[0].Models, []string{"fast", "openai/gpt-4.1"}) {
		t.Errorf("keys = %+v", c.Keys)
	}
	if c.Providers[2].BaseURL != "http://127.0.0.1:11434/v1" {
		t.Errorf("local = %+v", c.Providers[2])
	}

	// A variable wins over the file, also for a name with a dash.
	c, _ = parse(t, "listen: 127.0.0.1:1\nkeys: { team-a: { key: env:TEAM_A_KEY, team: x } }\n", "SHEEPGATE_LISTEN=127.0.0.1:2", "SHEEPGATE_KEYS_TEAM_A_TEAM=y")
	if c.Listen != "127.0.0.1:2" || c.Keys[0].Team != "y" || len(c.Keys) != 1 {
		t.Errorf("listen %s, keys %+v", c.Listen, c.Keys)
	}

	_, _, err = Load("", Options{Known: known, Environ: []string{"SHEEPGATE_RETENTION_CALLS=soon", "SHEEPGATE_PROVIDERS_X_TYPE=opnai"}})
	want := "environment: SHEEPGATE_RETENTION_CALLS: \"soon\" is not a duration like 5s, 10m, 1h30m or 90d\n" +
		`environment: SHEEPGATE_PROVIDERS_X_TYPE: unknown type "opnai" (did you mean "openai"?): expected "openai", "anthropic", "gemini", "deepseek" or "sim"`
	if err == nil || err.Error() != want {
		t.Errorf("error:\n%v\nwant:\n%s", err, want)
	}
}

func TestSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("sk-from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _ := parse(t, "providers: { openai: { key: 'file:"+file+"' }, deepseek: { key: sk-literal-secret } }\n")
	if got := c.Providers[0].Key.Value(); got != "sk-from-file" {
		t.Errorf("key of the file = %q", got)
	}
	shown, err := c.Show()
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{string(shown), string(asJSON), fmt.Sprint(c), fmt.Sprintf("%+v %#v", *c, *c)} {
		if strings.Contains(s, "sk-from-file") || strings.Contains(s, "sk-literal") {
			t.Errorf("a secret is shown in %s", s)
		}
	}
	if !strings.Contains(string(shown), "key: (hidden)") || !strings.Contains(string(shown), "key: file:"+file) {
		t.Errorf("Show:\n%s", shown)
	}
}

// TestShowIsValid reads what Show writes: it is the same configuration.
func TestShowIsValid(t *testing.T) {
	c, _ := parse(t, contractExample)
	first, err := c.Show()
	if err != nil {
		t.Fatal(err)
	}
	c, _ = parse(t, string(first))
	second, err := c.Show()
	if err != nil {
		t.Fatal(err)
	}
	if string(first) != string(second) {
		t.Errorf("Show of what was shown:\n%s\nwant:\n%s", second, first)
	}
}

func TestOffline(t *testing.T) {
	if _, _, err := Parse("f.yaml", []byte(contractExample), Options{Known: known, Offline: true}); err != nil {
		t.Errorf("offline: %v", err)
	}
}

func TestWindowsFile(t *testing.T) {
	c, _ := parse(t, "\xef\xbb\xbflisten: 127.0.0.1:1\r\nproviders:\r\n  openai:\r\n")
	if c.Listen != "127.0.0.1:1" || len(c.Providers) != 1 {
		t.Errorf("listen %q, providers %+v", c.Listen, c.Providers)
	}
}

func TestLoadFile(t *testing.T) {
	if _, _, err := Load(filepath.Join(t.TempDir(), "none.yaml"), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v, want ErrNotExist", err)
	}
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte("x: 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load("/dev/zero", Options{}); err == nil || !strings.Contains(err.Error(), "is longer than 4194304 bytes") {
		t.Errorf("a file without an end: %v", err)
	}
	_, _, err := Load(path, Options{})
	if err == nil || !strings.HasPrefix(err.Error(), path+":1:1: x: unknown key") {
		t.Errorf("error %v", err)
	}
}

func TestAnchors(t *testing.T) {
	c, _ := parse(t, "retention: { calls: &keep 30d, bodies: *keep }\n")
	if c.Retention.Bodies != 30*Day {
		t.Errorf("bodies = %v, want 30d", c.Retention.Bodies)
	}
}

// A long file is read. One that grows by its aliases is not, and that is all that
// is said of it.
func TestLong(t *testing.T) {
	const keys = 10_000
	var text strings.Builder
	var env []string
	text.WriteString("providers: { openai: }\nkeys:\n")
	for i := range keys {
		fmt.Fprintf(&text, "  k%d: { key: env:KEY_%d, team: t%d, limits: { rpm: 60, tpm: 300k }, budget: $20/day }\n", i, i, i%100)
		env = append(env, fmt.Sprintf("KEY_%d=a-key-of-some-length-%d", i, i))
	}
	if c, _ := parse(t, text.String(), env...); len(c.Keys) != keys || c.Keys[keys-1].Limits.TPM != 300_000 {
		t.Errorf("%d keys, the last %+v", len(c.Keys), c.Keys[len(c.Keys)-1])
	}

	text.Reset()
	text.WriteString("providers: { openai: }\nkeys:\n  a: &a { key: env:TEAM_A_KEY, models: [" + strings.Repeat("openai/x, ", 1000) + "openai/x] }\n")
	for i := range 100 {
		fmt.Fprintf(&text, "  k%d: *a\n", i)
	}
	text.WriteString("  k5: *a\nfoo: 1\nstore: { nosuch: 1 }\n")
	_, _, err := Parse("f.yaml", []byte(text.String()), Options{Known: known, Offline: true})
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.HasSuffix(err.Error(), ": nested too deeply, or too much of aliases: the rest is not read") {
		t.Errorf("error %.500v", err)
	}
}

func FuzzLoad(f *testing.F) {
	for _, s := range []string{contractExample, string(Example), "a: &a [*a]", "a: &a\n  b: *a", "? [x]\n: y", "\xff", "a: |\n  b", "- - -", "{", "x: !!binary a", "<<: {}", "keys:\n  ? a\n", "%YAML 1.1\n---\n", "use: *x", "\t", "a: 'b", "models: {a: {use: [[[[]]]]}}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		defer time.AfterFunc(2*time.Second, func() { panic(fmt.Sprintf("slow: %q", data)) }).Stop()
		c, warnings, err := Parse("f.yaml", data, Options{Known: known, Offline: true})
		var ps Problems
		if err != nil && !errors.As(err, &ps) {
			t.Fatalf("error %v is not Problems", err)
		}
		for _, p := range slices.Concat(ps, warnings) {
			if p.Line < 1 || p.Column < 1 || p.Message == "" {
				t.Errorf("problem without a place: %+v", p)
			}
		}
		if (c == nil) != (err != nil) {
			t.Errorf("config %v with error %v", c, err)
		}
		if c != nil {
			if _, err := c.Show(); err != nil {
				t.Errorf("Show: %v", err)
			}
		}
	})
}
