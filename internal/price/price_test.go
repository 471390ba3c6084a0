package price

import (
	"math/big"
	"math/rand/v2"
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
	// Half a nano-dollar is rounded up, once: three tokens at 0.0105 a million.
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

// TestCostIsExact compares with rational arithmetic over every row.
func TestCostIsExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, m := range Default().Models() {
		for range 50 {
			read, w5, w1 := rng.Int64N(1000), rng.Int64N(1000), rng.Int64N(1000)
			u := llm.Usage{CacheRead: read, CacheWrite5m: w5, CacheWrite1h: w1, Input: read + w5 + w1 + rng.Int64N(1_000_000), Output: rng.Int64N(100_000)}
			if _, embeds := m.Rows[0].Rates["output"]; !embeds {
				u.Output = 0
			}
			at := day.AddDate(0, 0, -rng.IntN(400)).Add(time.Duration(rng.IntN(86400)) * time.Second)
			got, ok := Default().Cost(m.Provider, m.ID, &u, at)
			if !ok {
				continue // not priced at that time
			}
			want := new(big.Rat)
			for _, l := range got.Lines {
				want.Add(want, new(big.Rat).Mul(big.NewRat(l.Quantity, l.Per), big.NewRat(int64(l.Rate), 1)))
			}
			diff := new(big.Rat).Sub(want, big.NewRat(int64(got.Nano), 1))
			if diff.Abs(diff).Cmp(big.NewRat(1, 2)) > 0 {
				t.Errorf("%s/%s %+v: %d, want %s", m.Provider, m.ID, u, got.Nano, want.FloatString(3))
			}
			var tokens int64
			for _, l := range got.Lines {
				tokens += l.Quantity
			}
			if tokens != u.Input+u.Output {
				t.Errorf("%s/%s: the lines hold %d tokens, want %d", m.Provider, m.ID, tokens, u.Input+u.Output)
			}
			more := u
			more.Output++
			if _, embeds := m.Rows[0].Rates["output"]; embeds {
				if c, _ := Default().Cost(m.Provider, m.ID, &more, at); c.Nano < got.Nano {
					t.Errorf("%s/%s: more output costs less", m.Provider, m.ID)
				}
			}
		}
	}
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

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"models":[{"provider":"p","id":"m","rows":[{"rates":{"input":0.1},"when":{"utc_from":"00:30:00Z","utc_to":"01:00:00Z"}}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			return
		}
		for _, m := range c.Models() {
			if got, ok := c.Cost(m.Provider, m.ID, &llm.Usage{Input: 1 << 30, Output: 1 << 30}, day); ok && got.Nano < 0 {
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
