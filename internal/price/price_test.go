package price

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/llm"
)

var day = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestCost(t *testing.T) {
	check := func(provider, model string, u llm.Usage, at time.Time, want llm.Nano, row string) {
		t.Helper()
		got, ok := Default().Cost(provider, model, &u, at)
		if !ok || got.Nano != want || got.Row != row {
			t.Errorf("Cost(%s/%s) = %v %q %v, want %v %q", provider, model, got.Nano, got.Row, ok, want, row)
		}
	}
	check("openai", "gpt-4.1", llm.Usage{Input: 23, Output: 24}, day, 238_000, "openai/gpt-4.1/standard/1")
	check("openai", "gpt-4.1-2025-04-14", llm.Usage{Input: 23, Output: 24}, day, 238_000, "openai/gpt-4.1/standard/1")
	check("openai", "gpt-4.1", llm.Usage{Input: 100, CacheRead: 40, Output: 0}, day, 60*2000+40*500, "openai/gpt-4.1/standard/1")
	check("openai", "gpt-4.1", llm.Usage{Input: 1000, Output: 1000, Tier: "batch"}, day, 1000*1000+1000*4000, "openai/gpt-4.1/batch/1")
	// Claude Code's own figure for 9 in and 3 out of Sonnet 4.5.
	check("anthropic", "claude-sonnet-4-5-20250929", llm.Usage{Input: 9, Output: 3}, day, 72_000, "anthropic/claude-sonnet-4-5/standard/1")
	check("anthropic", "claude-sonnet-4-5", llm.Usage{Input: 100, CacheWrite5m: 30, CacheWrite1h: 20, CacheRead: 10}, day,
		40*3000+30*3750+20*6000+10*300, "anthropic/claude-sonnet-4-5/standard/1")
	check("anthropic", "claude-sonnet-4-5", llm.Usage{Input: 200_001, Output: 1}, day, 200_001*6000+22_500, "anthropic/claude-sonnet-4-5/standard/1")
	check("gemini", "gemini-2.5-flash", llm.Usage{Input: 10, AudioInput: 4, Output: 2}, day, 6*300+4*1000+2*2500, "gemini/gemini-2.5-flash/standard/1")
	check("bench", "gpt-4.1", llm.Usage{Input: 1}, day, 2000, "openai/gpt-4.1/standard/1")             // a server of the user's own: the home price
	check("openrouter", "openai/gpt-4.1", llm.Usage{Input: 1}, day, 2000, "openai/gpt-4.1/standard/1") // an aggregator
	check("openai", "gpt-4.1", llm.Usage{ServerToolCalls: map[string]int64{"web_search": 3}}, day, 30_000_000, "openai/gpt-4.1/standard/1")
	// Other models within the reply, at their own price; the words for "as usual".
	check("anthropic", "claude-sonnet-4-5", llm.Usage{Input: 1, Tier: "auto", Others: []llm.ModelUsage{{Model: "claude-opus-4-8", Usage: llm.Usage{Input: 2518}}}}, day,
		3000+2518*5000, "anthropic/claude-sonnet-4-5/standard/1")
	// DeepSeek's clock: peak on a Monday at 02:00, not at 05:00, on Saturday or on a Chinese holiday.
	at := func(s string) time.Time {
		v, err := time.Parse("2006-01-02T15:04:05Z", s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	const off, peak = 1000*660 + 1000*1980, 2 * (1000*660 + 1000*1980)
	pro := llm.Usage{Input: 1000, Output: 1000}
	check("deepseek", "deepseek-v4-pro", pro, at("2026-11-23T02:00:00Z"), peak, "deepseek/deepseek-v4-pro/standard/3")
	check("deepseek", "deepseek-v4-pro", pro, at("2026-11-23T09:59:59Z"), peak, "deepseek/deepseek-v4-pro/standard/4")
	check("deepseek", "deepseek-v4-pro", pro, at("2026-11-23T10:00:00Z"), off, "deepseek/deepseek-v4-pro/standard/2")
	check("deepseek", "deepseek-v4-pro", pro, at("2026-11-23T05:00:00Z"), off, "deepseek/deepseek-v4-pro/standard/2")
	check("deepseek", "deepseek-v4-pro", pro, at("2026-11-21T02:00:00Z"), off, "deepseek/deepseek-v4-pro/standard/2")
	check("deepseek", "deepseek-v4-pro", pro, at("2026-10-05T02:00:00Z"), off, "deepseek/deepseek-v4-pro/standard/2")
	check("deepseek", "deepseek-chat", llm.Usage{Input: 10, Output: 1}, day, 10*270+1100, "deepseek/deepseek-chat/standard/2")
	check("deepseek", "deepseek-chat", llm.Usage{Input: 10, Output: 1}, day.Add(8*time.Hour), 10*135+550, "deepseek/deepseek-chat/standard/1")

	unknown := func(provider, model string, u llm.Usage) {
		t.Helper()
		if got, ok := Default().Cost(provider, model, &u, day); ok {
			t.Errorf("Cost(%s/%s) = %+v, want unknown", provider, model, got)
		}
	}
	unknown("ollama", "llama-nobody-knows", llm.Usage{Input: 1})
	unknown("openai", "gpt-99", llm.Usage{Input: 1})
	unknown("openai", "gpt-4.1", llm.Usage{Input: 1, Tier: "gold"})
	unknown("openai", "gpt-4.1", llm.Usage{ServerToolCalls: map[string]int64{"time_travel": 1}})
}

func TestNames(t *testing.T) {
	c := Default()
	home := func(model, want string) {
		t.Helper()
		if got := c.Home(model); len(got) == 0 || got[0] != want {
			t.Errorf("Home(%q) = %v, want %s first", model, got, want)
		}
	}
	home("gpt-4.1", "openai")
	home("claude-sonnet-4-5", "anthropic")
	home("gemini-2.5-flash", "gemini")
	home("gemini-2.5-pro", "gemini")
	home("deepseek-chat", "deepseek")
	if got := c.Home("no-such-model"); got != nil {
		t.Errorf("Home(no-such-model) = %v", got)
	}
	if got := c.Near("gpt-4.2", 3); len(got) == 0 || got[0] != "gpt-4.1" && got[0] != "gpt-4" {
		t.Errorf("Near(gpt-4.2) = %v", got)
	}
	if m, ok := c.Find("anthropic", "claude-sonnet-5-5-20261007"); !ok || m.ID != "claude-sonnet-5-5" {
		t.Errorf("Find(claude-sonnet-5-5-20261007) = %v %v", m, ok)
	}
	o, err := Parse([]byte(`{"models":[{"provider":"openai","id":"gpt-4.1","rows":[{"rates":{"input":1,"output":1}}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := c.With(o).Cost("openai", "gpt-4.1", &llm.Usage{Input: 1}, day); got.Nano != 1000 {
		t.Errorf("an override's cost = %v, want 1000", got.Nano)
	}
}

// TestOverrides: a user's row is a price of its own for every name of the
// model, tells itself apart in the row's id, and leaves the rest as it was.
func TestOverrides(t *testing.T) {
	o, err := Parse([]byte("models:\n- provider: openai\n  id: gpt-4.1\n  rows: [{rates: {input: 1, output: 0.00001}, from: 2026-06-01}]\n" +
		"- provider: local\n  id: llama3\n  rows: [{rates: {input: 0.02, output: 0.02}}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	c := Default().With(o)
	check := func(provider, model, tier string, at time.Time, want llm.Nano, row string) {
		t.Helper()
		if got, _ := c.Cost(provider, model, &llm.Usage{Input: 1000, Tier: tier}, at); got.Nano != want || got.Row != row {
			t.Errorf("Cost(%s/%s %s) = %v %q, want %v %q", provider, model, tier, got.Nano, got.Row, want, row)
		}
	}
	check("openai", "gpt-4.1", "", day, 1_000_000, "openai/gpt-4.1/user/standard/1")
	check("openai", "gpt-4.1-2025-04-14", "", day, 1_000_000, "openai/gpt-4.1/user/standard/1")
	check("openrouter", "openai/gpt-4.1", "", day, 1_000_000, "openai/gpt-4.1/user/standard/1")
	check("openai", "gpt-4.1", "", day.AddDate(-1, 0, 0), 2_000_000, "openai/gpt-4.1/standard/1")
	check("openai", "gpt-4.1", "batch", day, 1_000_000, "openai/gpt-4.1/batch/1")
	check("local", "llama3", "", day, 20_000, "local/llama3/user/standard/1")
	check("local", "gpt-4o", "", day, 2_500_000, "openai/gpt-4o/standard/1") // one row for local does not unprice the rest
	if got := c.Home("llama3"); len(got) != 1 || got[0] != "local" {
		t.Errorf("Home(llama3) = %v, want local", got)
	}
	if got, want := len(c.Models()), len(Default().Models())+1; got != want {
		t.Errorf("%d models, want %d", got, want)
	}
	check("openai", "gpt-4.1-mini", "", day, 400_000, "openai/gpt-4.1-mini/standard/1")
	if got, _ := Default().Cost("openai", "gpt-4.1", &llm.Usage{Input: 1000}, day); got.Nano != 2_000_000 {
		t.Errorf("With changed the catalogue it was called on: %v", got)
	}
}

func TestFind(t *testing.T) {
	check := func(provider, model, want string) {
		t.Helper()
		got := ""
		if m, ok := Default().Find(provider, model); ok {
			got = m.Provider + "/" + m.ID
		}
		if got != want {
			t.Errorf("Find(%s, %s) = %q, want %q", provider, model, got, want)
		}
	}
	check("openai", "gpt-4o-2024-11-20", "openai/gpt-4o")
	check("openai", "gpt-4o-2024-05-13", "") // older than the price: it had another
	check("openai", "gpt-4.1-2027-01-01", "openai/gpt-4.1")
	check("openai", "gpt-4.1-nope", "")
	check("openai", "GPT-4.1", "")
	check("openai", "gpt-5.6-sol-2026-09-01", "openai/gpt-5.6-sol")
	check("openai", "ft:gpt-4.1-2025-04-14:org::id", "") // fine-tuned models cost more
	check("anthropic", "claude-sonnet-5-5-20261007", "anthropic/claude-sonnet-5-5")
	check("anthropic", "claude-sonnet-4-5@20250929", "anthropic/claude-sonnet-4-5")
	check("anthropic", "claude-sonnet-4-20250514", "anthropic/claude-sonnet-4-0")
	check("gemini", "models/gemini-2.5-flash", "gemini/gemini-2.5-flash")
	check("gemini", "gemini-2.5-flash-001", "gemini/gemini-2.5-flash")
	check("gemini", "gemini-2.5-pro-preview-06-05", "gemini/gemini-2.5-pro")
	check("gemini", "gemini-2.5-pro-preview-tts", "") // speech has a price of its own
	check("gemini", "gemini-2.5-flash-lite-preview-09-2025", "gemini/gemini-2.5-flash-lite")
	check("gemini", "gemini-2.0-flash-001", "gemini/gemini-2.0-flash")
	check("gemini", "gemini-2.0-flash-lite-001", "gemini/gemini-2.0-flash-lite")
	check("groq", "openai/gpt-oss-120b", "groq/openai/gpt-oss-120b")
	check("openrouter", "anthropic/claude-sonnet-4.5", "anthropic/claude-sonnet-4-5")
	check("openrouter", "google/gemini-2.5-pro", "gemini/gemini-2.5-pro")
	check("openrouter", "x-ai/grok-4.5", "xai/grok-4.5")
	check("openrouter", "meta-llama/llama-3.3-70b-instruct:free", "")
	check("together", "openai/gpt-oss-120b", "") // an open model: whoever hosts it sets the price
	check("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic/claude-sonnet-4-5")
	check("vertex", "claude-opus-4-1@20250805", "anthropic/claude-opus-4-1")
	check("holysheep", "deepseek-chat", "deepseek/deepseek-chat")
	check("sim", "gpt-4.1", "openai/gpt-4.1")
	check("ollama", "llama3.2", "")
	check("", "", "")

	// Every name in the catalogue means the model it stands at.
	for _, m := range Default().Models() {
		check(m.Provider, m.ID, m.Provider+"/"+m.ID)
		for _, p := range m.Prefix {
			check(m.Provider, p+"-x", m.Provider+"/"+m.ID)
		}
	}
}

func TestReported(t *testing.T) {
	report := func(n llm.Nano) *llm.Usage { return &llm.Usage{Reported: &n} }
	if got, ok := Default().Reported("openrouter", report(25_265_000)); !ok || got.Nano != 25_265_000 || got.Row != "openrouter/reported" {
		t.Errorf("Reported = %+v %v", got, ok)
	}
	for _, u := range []*llm.Usage{{}, report(-1), report(math.MaxInt64)} {
		if got, ok := Default().Reported("openrouter", u); ok {
			t.Errorf("Reported(%+v) = %+v, want none", u, got)
		}
	}
}

// TestRounding: the sum is rounded, not the parts, and half goes to even.
func TestRounding(t *testing.T) {
	check := func(want llm.Nano, quantities ...int64) {
		t.Helper()
		var lines []Line
		for _, q := range quantities {
			lines = append(lines, Line{Quantity: q, Rate: 500_000, Per: 1_000_000}) // half a nano-dollar a token
		}
		if got := sum(lines); got != want {
			t.Errorf("sum of %v halves = %d, want %d", quantities, got, want)
		}
	}
	check(0, 1)
	check(1, 1, 1)
	check(2, 1, 1, 1)
	check(2, 5)
	check(4, 7)
	huge := make([]Line, 1000)
	for i := range huge {
		huge[i] = Line{Quantity: 1_000_000_000, Rate: maxRate, Per: 1000}
	}
	if got := sum(huge); got != math.MaxInt64 {
		t.Errorf("an absurd sum = %d, want the largest", got)
	}
}

func TestParseRefuses(t *testing.T) {
	check := func(catalogue, want string) {
		t.Helper()
		if _, err := Parse([]byte(catalogue)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%s) = %v, want an error with %q", catalogue, err, want)
		}
	}
	row := func(s string) string { return `{"models":[{"provider":"p","id":"m","rows":[` + s + `]}]}` }
	check(`{"model":[]}`, `1:2: model: unknown key (did you mean "models"?)`)
	check(`{} {}`, "1:4: not JSON: invalid character '{' after top-level value")
	check(`{}`, "there is no model")
	check(``, "not YAML: it is empty")
	check("models: \x01", "1:9: not text: the byte 0x01")
	check(`{"models": [}`, "1:13: not JSON: ")
	check(`{"models": [1`, "1:13: not JSON: unexpected end of JSON input")
	check("models:\n  - [\n", "not YAML")
	check("models: []\n---\nmodels: []\n", "second document")
	check("models: !!seq []", "tags are not supported")
	check("models: [{<<: {provider: p}}]", "merge keys")
	check("models: [*a]", "no anchor")
	check("#"+strings.Repeat(" ", maxYAML), "written in JSON")
	for _, deep := range []string{"[", "{a: ", "- ", "? ", "a: ", "&a ", "!!a ", "*a ", "> "} { // else the parser takes all memory there is
		check("models:\n"+strings.Repeat(deep, maxYAML/8), "nested too deeply")
	}
	deep := "models:"
	for i := range 300 {
		deep += "\n" + strings.Repeat(" ", i) + "a:"
	}
	check(deep, "nested too deeply")
	check(`{"models":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)+"}", "nested too deeply")
	check("models: "+strings.Repeat("[", 100)+strings.Repeat("]", 100), "nested too deeply")
	check(`{"models":[`+strings.Repeat("0,", maxNodes)+`0]}`, "too much")
	check(strings.Repeat(" ", MaxFile+1), "longer than")
	check("models: [{provider: p, id: m, rows: [{rates: {input: .inf}}]}]", "is not a number of dollars")
	check("models: [{provider: p, id: 4.1}]", "1:28: models[0].id: must be text, not a number")
	check("models: [{provider: p, id: m, context_window: 1.5}]", "1.5 is not a whole number")
	check(`{"models":[{"provider":"p","id":"m","id":"n"}]}`, "1:37: id: is there twice: first in line 1")
	check(`{"models":[{"provider":"p","rows":[]}]}`, "id is missing")
	check(`{"models":[{"provider":"p","id":"m"},{"provider":"p","id":"m"}]}`, "twice")
	check(row(`{"rates":{"output":1}}`), "input is missing")
	check(row(`{"rates":{"input":1,"ouput":1}}`), "rates.ouput: it is none of")
	check(row(`{"rates":{"input":-1}}`), "not a number")
	check(row(`{"rates":{"input":"1"}}`), "not a number")
	check(row(`{"rates":{"input":1e99}}`), "not a number")
	check(row(`{"rates":{"input":0.0000000001}}`), "nine decimals")
	check(row(`{"rates":{"input":1},"from":"2026-02-30"}`), "YYYY-MM-DD")
	check(row(`{"rates":{"input":1},"from":"2026-02-02","until":"2026-02-02"}`), "ends before")
	check(row(`{"rates":{"input":1},"when":{"utc_from":"1","utc_to":"2"}}`), "time of day")
	check(row(`{"rates":{"input":1},"when":{"utc_from":"01:00:00Z","utc_to":"02:00:00Z","weekdays":["monday"]}}`), "weekday")
	check(row(`{"rates":{"input":1},"when":{"utc_from":"01:00:00Z","utc_to":"02:00:00Z","except":"moon"}}`), "calendar")
	check(`{"calendars":{"c":{"days":["2026-01-01","2026-13-01"]}},"models":[{"provider":"p","id":"m"}]}`, "calendars.c.days[1]: ")
	check(row(`{"rates":{"input":1},"long":[{"over_input_tokens":2,"rates":{"input":1}},{"over_input_tokens":1,"rates":{"input":1}}]}`), "grow")
	check(row(`{"row":"a","rates":{"input":1}},{"row":"a","rates":{"input":1}}`), "twice")
}

// TestEveryMistake: all are named, each with its place, in JSON and in YAML.
func TestEveryMistake(t *testing.T) {
	check := func(text string, want ...string) {
		t.Helper()
		_, err := Parse([]byte(text))
		var got []string
		if problems := (Problems)(nil); errors.As(err, &problems) {
			for _, p := range problems {
				got = append(got, p.String())
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("Parse(%s):\n got %q\nwant %q", text, got, want)
		}
	}
	check("# 가격\nversion: \"2026-11-25\"\nmodel: x\nmodels:\n- provider: openai\n  id: a\n  rows:\n  - {rates: {input: -1, output: two}}\n  - from: 2026-02-30\n    rates: {input: 1}\n"+
		"- provider: openai\n  rows: []\n- provider: openai\n  id: b\n  rows:\n  - rates: {output: 1, ouput: 2}\n",
		`3:1: model: unknown key (did you mean "models"?)`,
		`8:21: models[0].rows[0].rates.input: rate "-1" is not a number of dollars from 0 to 10000 with at most nine decimals`,
		`8:33: models[0].rows[0].rates.output: rate "\"two\"" is not a number of dollars from 0 to 10000 with at most nine decimals`,
		`9:11: models[0].rows[1].from: date "2026-02-30" is not YYYY-MM-DD`,
		`11:3: models[1]: provider or id is missing`,
		`16:12: models[2].rows[0].rates: input is missing`,
		`16:31: models[2].rows[0].rates.ouput: it is none of input, cache_read, cache_write_5m, cache_write_1h, audio_input, audio_cache_read, output, reasoning_output, audio_output`)
	check("{\"models\": [\n  {\"provider\": \"p\", \"id\": \"m\", \"rows\": [{\"rates\": {\"input\": 1}, \"tire\": \"batch\"}]},\n  {\"provider\": \"p\", \"id\": \"m\", \"rows\": 3}]}",
		`2:65: models[0].rows[0].tire: unknown key (did you mean "tier"?)`,
		`3:40: models[1].rows: must be a list, not a number`)
}

// TestUpdate: an installed model has its own rows alone and the names of both;
// what is not named stays, and overrides go before.
func TestUpdate(t *testing.T) {
	read := func(text string) *Catalogue {
		t.Helper()
		c, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	o := read("version: \"2026-12-01\"\nsources: {vendor: {date: \"2026-11-30\"}}\nmodels:\n- {provider: openai, id: gpt-4.1, source: vendor, exact: [gpt-4.1-new], rows: [{until: 2026-12-01, rates: {input: 2, output: 8}}, {from: 2026-12-01, origin: nonsense, rates: {input: 3, output: 12}}]}\n" +
		"- {provider: local, id: llama3, rows: [{rates: {input: 1, output: 1}, when: {utc_from: \"00:00:00Z\", utc_to: \"12:00:00Z\", except: cn_public_holidays}}]}\n")
	c := Default().Update(o)
	check := func(c *Catalogue, provider, model, tier string, at time.Time, want llm.Nano, ok bool) {
		t.Helper()
		if got, known := c.Cost(provider, model, &llm.Usage{Input: 1000, Tier: tier}, at); got.Nano != want || known != ok {
			t.Errorf("Cost(%s/%s %s at %v) = %v %v, want %v %v", provider, model, tier, at, got.Nano, known, want, ok)
		}
	}
	later := time.Date(2026, 12, 2, 0, 0, 0, 0, time.UTC)
	for _, name := range []string{"gpt-4.1", "gpt-4.1-2025-04-14", "gpt-4.1-new"} {
		check(c, "openai", name, "", day, 2_000_000, true)
		check(c, "openai", name, "", later, 3_000_000, true)
	}
	check(c, "openai", "gpt-4.1", "batch", day, 0, false) // the file has no such row
	check(c, "openai", "gpt-4.1-mini", "", day, 400_000, true)
	check(c, "local", "llama3", "", time.Date(2026, 9, 30, 1, 0, 0, 0, time.UTC), 1_000_000, true)
	check(c, "local", "llama3", "", time.Date(2026, 10, 1, 1, 0, 0, 0, time.UTC), 0, false) // a holiday of the built-in calendar
	own := c.With(read("models: [{provider: openai, id: gpt-4.1, rows: [{rates: {input: 7}}]}]"))
	check(own, "openai", "gpt-4.1", "", later, 7_000_000, true)
	if c.Version() != "2026-12-01" || own.Version() != "2026-12-01" || Default().Version() == "2026-12-01" {
		t.Errorf("versions %s, %s, %s", c.Version(), own.Version(), Default().Version())
	}
	m, _ := own.Find("openai", "gpt-4.1")
	var got []string
	for _, r := range m.Rows {
		got = append(got, r.Row+" "+r.Origin+" "+r.Source+" "+r.Dated)
	}
	if want := []string{"user/standard/1 overrides  ", "standard/1 installed vendor 2026-11-30", "standard/2 installed vendor 2026-11-30"}; !slices.Equal(got, want) {
		t.Errorf("rows %q, want %q", got, want)
	}

	var changes []string
	for _, x := range Diff(Default(), c) {
		changes = append(changes, x.Change+" "+x.Provider+"/"+x.Model+"/"+x.Row)
	}
	if want := []string{"added local/llama3/standard/1", "removed openai/gpt-4.1/batch/1", "removed openai/gpt-4.1/priority/1", "changed openai/gpt-4.1/standard/1", "added openai/gpt-4.1/standard/2"}; !slices.Equal(changes, want) {
		t.Errorf("changes %q, want %q", changes, want)
	}
	if list := Diff(c, c.Update(o)); len(list) != 0 {
		t.Errorf("the same file twice changes %+v", list)
	}
}

// TestPrintedIsRead: what a list prints is a price file, and says the same.
func TestPrintedIsRead(t *testing.T) {
	text, err := json.Marshal(map[string]any{"version": Default().Version(), "models": Default().Models()})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	again := Default().Update(c)
	if list := Diff(Default(), again); len(list) != 0 {
		t.Errorf("%d rows changed: %+v", len(list), list[0])
	}
	for _, m := range again.Models() {
		for _, r := range m.Rows {
			if was, _ := Default().Find(m.Provider, m.ID); r.Source == "" || r.Dated == "" || r.Origin != Installed || r.Dated != was.row(r.Row).Dated || r.Source != was.row(r.Row).Source {
				t.Errorf("%s/%s/%s: source %q, date %q, origin %q", m.Provider, m.ID, r.Row, r.Source, r.Dated, r.Origin)
			}
		}
	}
}

func (m *Model) row(id string) *Row {
	for i := range m.Rows {
		if m.Rows[i].Row == id {
			return &m.Rows[i]
		}
	}
	return &Row{}
}

// TestInstalled: every bit of an installed file counts.
func TestInstalled(t *testing.T) {
	text := []byte("# 1 & 2 <3>\nmodels: [{provider: p, id: m, rows: [{rates: {input: 1.25}}]}]\n")
	at := time.Date(2026, 11, 25, 7, 0, 0, 5, time.FixedZone("", 3600))
	kept := EncodeInstalled(text, at)
	c, got, err := ReadInstalled(kept)
	if err != nil || !got.Equal(at.Truncate(time.Second)) || len(c.Models()) != 1 {
		t.Fatalf("ReadInstalled = %v %v %v", c, got, err)
	}
	bad := 0
	for i := range kept {
		for bit := range 8 {
			broken := bytes.Clone(kept)
			broken[i] ^= 1 << bit
			if c, _, err := ReadInstalled(broken); err != nil {
				bad++
			} else if got, _ := c.Cost("p", "m", &llm.Usage{Input: 1_000_000}, day); got.Nano != 1_250_000_000 {
				t.Errorf("with bit %d of byte %d turned the price is %v", bit, i, got.Nano)
			}
		}
		if _, _, err := ReadInstalled(kept[:i]); err == nil && i < len(kept)-1 { // the last is the end of the line
			t.Errorf("cut off after %d bytes it is read", i)
		}
	}
	if bad < 7*len(kept) {
		t.Errorf("only %d of %d turned bits are noticed", bad, 8*len(kept))
	}
}

func TestCharge(t *testing.T) {
	said, absurd := llm.Nano(5), llm.Nano(math.MaxInt64)
	check := func(u llm.Usage, believed bool, want llm.Nano, row string) {
		t.Helper()
		u.Input = 1000
		if got, ok := Default().Charge("openrouter", "openai/gpt-4.1", &u, day, believed); !ok || got.Nano != want || got.Row != row || IsReported(got.Row) != (row == "openrouter/reported") {
			t.Errorf("Charge = %+v %v, want %v %q", got, ok, want, row)
		}
	}
	check(llm.Usage{Reported: &said}, true, 5, "openrouter/reported")
	check(llm.Usage{Reported: &said}, false, 2_000_000, "openai/gpt-4.1/standard/1")
	check(llm.Usage{Reported: &absurd}, true, 2_000_000, "openai/gpt-4.1/standard/1")
	check(llm.Usage{}, true, 2_000_000, "openai/gpt-4.1/standard/1")
}

func TestRateJSON(t *testing.T) {
	check := func(in string, want Rate, out string) {
		t.Helper()
		var r Rate
		if err := r.UnmarshalJSON([]byte(in)); err != nil || r != want {
			t.Errorf("Rate(%s) = %d %v, want %d", in, r, err, want)
		}
		if b, _ := want.MarshalJSON(); string(b) != out {
			t.Errorf("Rate %d = %s, want %s", want, b, out)
		}
	}
	check("0.42", 420_000_000, "0.42")
	check("10000", maxRate, "10000")
	check("1e-05", 10_000, "0.00001")
	check("1.50E1", 15_000_000_000, "15")
	check("0", 0, "0")
	check("100.000000000", 100_000_000_000, "100")
}

func FuzzInstalled(f *testing.F) {
	f.Add(EncodeInstalled([]byte(`{"models":[{"provider":"p","id":"m"}]}`), day))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, _, err := ReadInstalled(b); err == nil && len(c.Models()) == 0 {
			t.Error("a file without a model was read")
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("a: &a [1]\nmodels:\n- provider: p\n  id: m\n  exact: [*a, *a]\n  rows:\n  - {rates: {input: 1e-05}, from: 2026-01-01}\n"))
	f.Add([]byte(`{"models":[{"provider":"p","id":"m","rows":[{"rates":{"input":0.1},"when":{"utc_from":"00:30:00Z","utc_to":"01:00:00Z"}}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			return
		}
		both := Default().With(c).Update(c)
		for _, m := range c.Models() {
			if _, ok := both.Find(m.Provider, m.ID); !ok {
				t.Errorf("With lost %q/%q", m.Provider, m.ID)
			}
			if got, ok := c.Cost(m.Provider, m.ID, &llm.Usage{Input: 1_000_000_000, Output: 1_000_000_000}, day); ok && got.Nano < 0 {
				t.Errorf("negative cost %v", got)
			}
		}
	})
}

func BenchmarkCost(b *testing.B) {
	u := llm.Usage{Input: 1000, CacheRead: 100, Output: 100}
	for b.Loop() {
		Default().Cost("openai", "gpt-4.1", &u, day)
	}
}
