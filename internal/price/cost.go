package price

import (
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// A Cost is what a usage costs, and how it came about.
type Cost struct {
	Nano  llm.Nano
	Row   string // provider/model/tier/number of the row that priced it
	Lines []Line // their exact sum, rounded once, is Nano
}

// A Line is one kind of use at its rate.
type Line struct {
	Model    string // whose price: that of another model within the reply differs
	Kind     string // input, cache_read, output, web_search …
	Quantity int64  // tokens or calls
	Rate     Rate   // per Per
	Per      int64  // 1,000,000 tokens or 1,000 calls
}

// Cost prices a usage at the time of the request. ok is false when no row
// covers the model, its tier or a part of the use: then the cost is unknown.
//
// cost = (input − cache reads − cache writes − audio)·input + each of these at
// its own rate + (output − audio)·output + audio·audio_output + tools. Where a
// row has no special rate the nearest general one counts: cache_write_1h →
// cache_write_5m → input, cache_read → input, audio → text. The sum is rounded
// once, half up, to the nano-dollar.
func (c *Catalogue) Cost(provider, model string, u *llm.Usage, at time.Time) (Cost, bool) {
	m, ok := c.Find(provider, model)
	if !ok {
		return Cost{}, false
	}
	row := m.row(u.Tier, at)
	if row == nil {
		return Cost{}, false
	}
	cost := Cost{Row: m.Provider + "/" + m.ID + "/" + row.Row}
	if cost.Lines, ok = row.lines(m.ID, u, nil); !ok {
		return Cost{}, false
	}
	for i := range u.Others {
		o := &u.Others[i]
		om, ok := c.Find(provider, o.Model)
		if !ok {
			return Cost{}, false
		}
		orow := om.row(o.Tier, at)
		if orow == nil {
			return Cost{}, false
		}
		if cost.Lines, ok = orow.lines(om.ID, &o.Usage, cost.Lines); !ok {
			return Cost{}, false
		}
	}
	cost.Nano = sum(cost.Lines)
	return cost, true
}

// Row is the row that prices a tier at a time, nil if none does; "" is the
// standard tier.
func (m *Model) Row(tier string, at time.Time) *Row { return m.row(tier, at) }

// row is the row for a tier at a time: the one with a window that holds t
// before one without, then the latest to begin.
func (m *Model) row(tier string, t time.Time) *Row {
	if tier == "" || tier == "default" {
		tier = "standard"
	}
	var best *Row
	for i := range m.Rows {
		r := &m.Rows[i]
		if r.Tier != tier || !r.From.IsZero() && t.Before(r.From.Time) || !r.Until.IsZero() && !t.Before(r.Until.Time) || r.When != nil && !r.When.holds(t) {
			continue
		}
		if best == nil || r.When != nil && best.When == nil ||
			(r.When != nil) == (best.When != nil) && !r.From.Before(best.From.Time) {
			best = r
		}
	}
	return best
}

// lines appends what u uses at r's rates.
func (r *Row) lines(model string, u *llm.Usage, to []Line) ([]Line, bool) {
	rates := r.Rates
	for _, l := range r.Long {
		if u.Input > l.Over {
			rates = l.Rates
		}
	}
	ok := true
	add := func(n int64, kinds ...string) {
		if n <= 0 {
			return
		}
		for _, k := range kinds {
			if rate, has := rates[k]; has {
				to = append(to, Line{Model: model, Kind: kinds[0], Quantity: n, Rate: rate, Per: 1_000_000})
				return
			}
		}
		ok = false
	}
	audioIn := min(u.AudioInput, u.Input-u.CacheRead-u.CacheWrite5m-u.CacheWrite1h)
	add(u.Input-u.CacheRead-u.CacheWrite5m-u.CacheWrite1h-audioIn, "input")
	add(u.CacheRead, "cache_read", "input")
	add(u.CacheWrite5m, "cache_write_5m", "input")
	add(u.CacheWrite1h, "cache_write_1h", "cache_write_5m", "input")
	add(audioIn, "audio_input", "input")
	audioOut := min(u.AudioOutput, u.Output)
	if _, has := rates["output"]; has || u.Output > 0 {
		add(u.Output-audioOut, "output")
		add(audioOut, "audio_output", "output")
	}
	tools := make([]string, 0, len(u.ServerToolCalls))
	for tool := range u.ServerToolCalls {
		tools = append(tools, tool)
	}
	slices.Sort(tools)
	for _, tool := range tools {
		n := u.ServerToolCalls[tool]
		rate, has := r.Per1000[tool]
		switch {
		case n <= 0:
		case has:
			to = append(to, Line{Model: model, Kind: tool, Quantity: n, Rate: rate, Per: 1000})
		case strings.HasPrefix(tool, "web_fetch"): // free beyond its tokens: https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/web-fetch-tool
		default:
			ok = false
		}
	}
	return to, ok
}

// sum adds the lines in 128 bits and rounds once, half up.
func sum(lines []Line) llm.Nano {
	const unit = 1_000_000
	var hi, lo uint64
	for _, l := range lines {
		h, x := bits.Mul64(uint64(l.Quantity), uint64(l.Rate))
		h2, x2 := bits.Mul64(x, uint64(unit/l.Per))
		var carry uint64
		lo, carry = bits.Add64(lo, x2, 0)
		hi, _ = bits.Add64(hi, h2+h*uint64(unit/l.Per), carry)
	}
	lo, carry := bits.Add64(lo, unit/2, 0)
	hi += carry
	if hi >= unit {
		return 1<<63 - 1 // beyond nine thousand million dollars: saturate
	}
	q, _ := bits.Div64(hi, lo, unit)
	return llm.Nano(min(q, 1<<63-1))
}
