package price

import (
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// plainModel is the catalogue's JSON read without this package's types.
type plainModel struct {
	Provider, ID string
	Rows         []struct {
		Row, Tier, From, Until string
		When                   *struct {
			From     string `json:"utc_from"`
			To       string `json:"utc_to"`
			Weekdays []string
			Except   string
		}
		Rates map[string]json.Number
		Long  []struct {
			Over  int64 `json:"over_input_tokens"`
			Rates map[string]json.Number
		}
	}
}

func rat(t *testing.T, n json.Number) *big.Rat {
	t.Helper()
	r, ok := new(big.Rat).SetString(n.String())
	if !ok {
		t.Fatalf("%q is not a number", n)
	}
	return r
}

// rational is what the catalogue's semantics say in words, in big.Rat: the cost
// in nano-USD, nil if there is no row.
func (m *plainModel) rational(t *testing.T, u *llm.Usage, at time.Time) (cost *big.Rat, row string) {
	t.Helper()
	best := -1
	for i, r := range m.Rows {
		day, clock := at.Format("2006-01-02"), at.Format("15:04:05Z")
		if r.Tier != "standard" || r.From != "" && day < r.From || r.Until != "" && day >= r.Until {
			continue
		}
		if w := r.When; w != nil {
			if len(w.Weekdays) > 0 && !slices.Contains(w.Weekdays, map[time.Weekday]string{1: "mon", 2: "tue", 3: "wed", 4: "thu", 5: "fri"}[at.Weekday()]) {
				continue
			}
			if clock < w.From || clock >= w.To || w.Except != "" && holidays2026[day] {
				continue
			}
		}
		if best < 0 || (r.When != nil) && m.Rows[best].When == nil || (r.When != nil) == (m.Rows[best].When != nil) && r.From >= m.Rows[best].From {
			best = i
		}
	}
	if best < 0 {
		return nil, ""
	}
	rates := m.Rows[best].Rates
	for _, l := range m.Rows[best].Long {
		if u.Input > l.Over {
			rates = l.Rates
		}
	}
	total := new(big.Rat)
	add := func(n int64, kinds ...string) {
		for _, k := range kinds {
			if r, ok := rates[k]; ok {
				total.Add(total, new(big.Rat).Mul(rat(t, r), new(big.Rat).SetInt64(n)))
				return
			}
		}
	}
	add(u.Input-u.CacheRead-u.CacheWrite5m-u.CacheWrite1h-u.AudioInput, "input")
	add(u.CacheRead, "cache_read", "input")
	add(u.CacheWrite5m, "cache_write_5m", "input")
	add(u.CacheWrite1h, "cache_write_1h", "cache_write_5m", "input")
	add(u.AudioInput, "audio_input", "input")
	add(u.Output, "output")
	return total.Mul(total, big.NewRat(1000, 1)), m.Provider + "/" + m.ID + "/" + m.Rows[best].Row // USD a million tokens → nano-USD a token
}

// holidays2026 are the holidays on a working day since the first window that
// leaves them out, written down a second time.
var holidays2026 = map[string]bool{"2026-09-25": true, "2026-10-01": true, "2026-10-02": true, "2026-10-05": true, "2026-10-06": true, "2026-10-07": true}

// TestCostIsExact compares with rational arithmetic over every model at random
// times and uses.
func TestCostIsExact(t *testing.T) {
	var file struct{ Models []plainModel }
	if err := json.Unmarshal(embedded, &file); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	priced := 0
	for i := range file.Models {
		m := &file.Models[i]
		_, speaks := m.Rows[0].Rates["output"]
		for range 200 {
			size := int64(math.Pow(10, 1+5*rng.Float64()))
			u := llm.Usage{CacheRead: rng.Int64N(size), CacheWrite5m: rng.Int64N(size), CacheWrite1h: rng.Int64N(size), AudioInput: rng.Int64N(size)}
			u.Input = u.CacheRead + u.CacheWrite5m + u.CacheWrite1h + u.AudioInput + rng.Int64N(size)
			if speaks {
				u.Output = rng.Int64N(size)
			}
			at := day.AddDate(0, 0, 60-rng.IntN(400)).Add(time.Duration(rng.IntN(86400)) * time.Second)
			want, row := m.rational(t, &u, at)
			got, ok := Default().Cost(m.Provider, m.ID, &u, at)
			if ok != (want != nil) || got.Row != row {
				t.Errorf("%s/%s at %v: row %q %v, want %q", m.Provider, m.ID, at, got.Row, ok, row)
			}
			if !ok || want == nil {
				continue
			}
			priced++
			if w := halfEven(want); got.Nano != w {
				t.Errorf("%s/%s at %v %+v: %d, want %d (%s)", m.Provider, m.ID, at, u, got.Nano, w, want.FloatString(6))
			}
			check(t, m, &u, got, at)
			if t.Failed() {
				return
			}
		}
	}
	if priced < 10_000 {
		t.Errorf("only %d costs compared", priced)
	}
}

// check holds a cost to what its lines say and to being monotone.
func check(t *testing.T, m *plainModel, u *llm.Usage, got Cost, at time.Time) {
	t.Helper()
	var tokens int64
	exact := new(big.Rat)
	_, lines, _ := Default().Explain(m.Provider, m.ID, u, at)
	for _, l := range lines {
		tokens += l.Quantity
		exact.Add(exact, rat(t, json.Number(l.Exact())))
	}
	if tokens != u.Input+u.Output {
		t.Errorf("%s/%s: the lines hold %d tokens, want %d", m.Provider, m.ID, tokens, u.Input+u.Output)
	}
	if w := halfEven(exact); got.Nano != w {
		t.Errorf("%s/%s: the lines sum to %s, the cost is %d", m.Provider, m.ID, exact.FloatString(6), got.Nano)
	}
	more := *u
	more.Input, more.CacheRead = more.Input+3, more.CacheRead+1
	if more.Output > 0 {
		more.Output++
	}
	if c, _ := Default().Cost(m.Provider, m.ID, &more, at); c.Nano < got.Nano {
		t.Errorf("%s/%s: %+v costs %d, more of it %d", m.Provider, m.ID, u, got.Nano, c.Nano)
	}
	twice := *u // another model within the reply adds its own cost
	twice.Others = []llm.ModelUsage{{Model: m.ID, Usage: *u}}
	if c, _ := Default().Cost(m.Provider, m.ID, &twice, at); c.Nano < 2*got.Nano-1 || c.Nano > 2*got.Nano+1 {
		t.Errorf("%s/%s: twice the use costs %d, once %d", m.Provider, m.ID, c.Nano, got.Nano)
	}
}

func halfEven(r *big.Rat) llm.Nano {
	q, rest := new(big.Int).QuoRem(r.Num(), r.Denom(), new(big.Int))
	switch rest.Lsh(rest, 1).Cmp(r.Denom()) {
	case 1:
		q.Add(q, big.NewInt(1))
	case 0:
		q.Add(q, big.NewInt(int64(q.Bit(0))))
	}
	return llm.Nano(q.Int64())
}
