package price

import (
	"math"
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
	o, err := ParseYAML([]byte("models:\n- provider: openai\n  id: gpt-4.1\n  rows: [{rates: {input: 1, output: 0.00001}, from: 2026-06-01}]\n" +
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
	check(`{"model":[]}`, "unknown field")
	check(`{} {}`, "follows its end")
	check(`{"models":[{"provider":"p","rows":[]}]}`, "id is missing")
	check(`{"models":[{"provider":"p","id":"m"},{"provider":"p","id":"m"}]}`, "twice")
	check(row(`{"rates":{"output":1}}`), "input is missing")
	check(row(`{"rates":{"input":1,"ouput":1}}`), `"ouput"`)
	check(row(`{"rates":{"input":-1}}`), "not a number")
	check(row(`{"rates":{"input":"1"}}`), "not a number")
	check(row(`{"rates":{"input":1e99}}`), "not a number")
	check(row(`{"rates":{"input":0.0000000001}}`), "nine decimals")
	check(row(`{"rates":{"input":1},"from":"2026-02-30"}`), "YYYY-MM-DD")
	check(row(`{"rates":{"input":1},"from":"2026-02-02","until":"2026-02-02"}`), "ends before")
	check(row(`{"rates":{"input":1},"when":{"utc_from":"1","utc_to":"2"}}`), "time of day")
	check(row(`{"rates":{"input":1},"when":{"utc_from":"01:00:00Z","utc_to":"02:00:00Z","weekdays":["monday"]}}`), "weekday")
	check(row(`{"rates":{"input":1},"when":{"utc_from":"01:00:00Z","utc_to":"02:00:00Z","except":"moon"}}`), "calendar")
	check(row(`{"rates":{"input":1},"long":[{"over_input_tokens":2,"rates":{"input":1}},{"over_input_tokens":1,"rates":{"input":1}}]}`), "grow")
	check(row(`{"row":"a","rates":{"input":1}},{"row":"a","rates":{"input":1}}`), "twice")
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

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"models":[{"provider":"p","id":"m","rows":[{"rates":{"input":0.1},"when":{"utc_from":"00:30:00Z","utc_to":"01:00:00Z"}}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			return
		}
		both := Default().With(c)
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
