package price

import (
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// A Cost is what a usage costs, and how it came about.
type Cost struct {
	Nano llm.Nano
	Row  string // provider/model/tier/number of the row that priced it
}

// A Line is one kind of use at its rate.
type Line struct {
	Model    string // whose price: that of another model within the reply differs
	Kind     string // input, cache_read, output, web_search …
	Quantity int64  // tokens or calls
	Rate     Rate   // per Per
	Per      int64  // 1,000,000 tokens or 1,000 calls
}

// Exact is Quantity × Rate ÷ Per in nano-USD, unrounded: "0.5", "46000".
func (l Line) Exact() string {
	hi, lo := bits.Mul64(uint64(l.Quantity), uint64(l.Rate))
	per := uint64(max(l.Per, 1))
	if hi >= per {
		return "more than nine thousand million dollars"
	}
	q, rest := bits.Div64(hi, lo, per)
	s := strconv.FormatUint(q, 10)
	if rest == 0 {
		return s
	}
	frac := strconv.FormatUint(per+rest, 10)[1:] // Per is a power of ten
	return s + "." + strings.TrimRight(frac, "0")
}

// Cost prices a usage at the time of the request. ok is false when no row
// covers the model, its tier or a part of the use, or the usage is not valid:
// then the cost is unknown.
//
// cost = (input − cache reads − cache writes − audio)·input + each of these at
// its own rate + (output − audio)·output + audio·audio_output + tools. Where a
// row has no special rate the nearest general one counts: cache_write_1h →
// cache_write_5m → input, cache_read → input, audio → text, reasoning → output.
// Other models within the reply count at their own price. The sum is exact
// and is rounded once, half to even, to the nano-dollar.
func (c *Catalogue) Cost(provider, model string, u *llm.Usage, at time.Time) (Cost, bool) {
	var room [8]Line
	lines, row, ok := c.lines(provider, model, u, at, room[:0])
	return Cost{sum(lines), row}, ok
}

// Explain is Cost with the lines that it is made of: their exact sum, rounded
// once, is its Nano.
func (c *Catalogue) Explain(provider, model string, u *llm.Usage, at time.Time) (Cost, []Line, bool) {
	lines, row, ok := c.lines(provider, model, u, at, nil)
	return Cost{sum(lines), row}, lines, ok
}

// lines appends what u uses, and names the row that prices it. They are none
// where ok is false.
func (c *Catalogue) lines(provider, model string, u *llm.Usage, at time.Time, to []Line) (_ []Line, name string, ok bool) {
	if !u.Valid() {
		return nil, "", false
	}
	m, ok := c.Find(provider, model)
	if !ok {
		return nil, "", false
	}
	row := m.Row(u.Tier, at)
	if row == nil {
		return nil, "", false
	}
	if to, ok = row.lines(m.ID, u, to); !ok {
		return nil, "", false
	}
	for i := range u.Others {
		o := &u.Others[i]
		om, ok := c.Find(provider, o.Model)
		if !ok {
			return nil, "", false
		}
		tier := o.Tier
		if tier == "" {
			tier = u.Tier
		}
		orow := om.Row(tier, at)
		if orow == nil {
			return nil, "", false
		}
		if to, ok = orow.lines(om.ID, &o.Usage, to); !ok {
			return nil, "", false
		}
	}
	return to, c.rows[row], true
}

// Reported is the cost that the provider itself put into the reply, for those
// whose word counts (an aggregator's price is its own). ok is false if it gave
// none that can be believed.
func (c *Catalogue) Reported(provider string, u *llm.Usage) (Cost, bool) {
	if u.Reported == nil || *u.Reported < 0 || *u.Reported > maxRate { // ten thousand dollars for one reply
		return Cost{}, false
	}
	return Cost{Nano: *u.Reported, Row: provider + reported}, true
}

// Charge is what a usage at a provider costs: what the provider itself says, if
// its word counts and it gave one that can be believed, else what the catalogue
// does. ok is false where neither knows.
func (c *Catalogue) Charge(provider, model string, u *llm.Usage, at time.Time, believed bool) (Cost, bool) {
	if believed {
		if cost, ok := c.Reported(provider, u); ok {
			return cost, true
		}
	}
	return c.Cost(provider, model, u, at)
}

// IsReported reports whether the row of a Call says that the provider itself
// named the cost: no catalogue knows better.
func IsReported(row string) bool { return strings.HasSuffix(row, reported) }

const reported = "/reported"

// tierOf is the catalogue's word for a service tier. The words for "whatever is
// usual" are the standard one; any other that has no row stays unpriced, since
// what priority, flex or fast costs cannot be guessed.
func tierOf(s string) string {
	switch s = strings.ToLower(s); s {
	case "", "default", "auto", "standard", "standard_only", "on_demand":
		return "standard"
	}
	return s
}

// Row is m's row for a tier at a time, nil if there is none: the user's own
// before the catalogue's, one with a window that holds t before one without,
// then the latest to begin. "" is the standard tier.
func (m *Model) Row(tier string, t time.Time) *Row {
	tier = tierOf(tier)
	var best *Row
	for i := range m.Rows {
		r := &m.Rows[i]
		if r.Tier == tier && r.holds(t) && (best == nil || r.before(best)) {
			best = r
		}
	}
	return best
}

func (r *Row) holds(t time.Time) bool {
	return (r.From.IsZero() || !t.Before(r.From.Time)) && (r.Until.IsZero() || t.Before(r.Until.Time)) &&
		(r.When == nil || r.When.holds(t))
}

// before reports whether r wins over s where both hold: of two alike the later
// in the list does, as a correction comes after what it corrects.
func (r *Row) before(s *Row) bool {
	if own := r.Origin == Overrides; own != (s.Origin == Overrides) { // the user's own
		return own
	}
	if (r.When != nil) != (s.When != nil) {
		return r.When != nil
	}
	return !r.From.Before(s.From.Time)
}

// lines appends what u uses at r's rates.
func (r *Row) lines(model string, u *llm.Usage, to []Line) ([]Line, bool) {
	rates := r.Rates
	for _, l := range r.Long { // ascending
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
	fresh := u.Input - u.CacheRead - u.CacheWrite5m - u.CacheWrite1h
	audioIn := min(u.AudioInput, fresh)
	add(fresh-audioIn, "input")
	add(u.CacheRead, "cache_read", "input")
	add(u.CacheWrite5m, "cache_write_5m", "input")
	add(u.CacheWrite1h, "cache_write_1h", "cache_write_5m", "input")
	add(audioIn, "audio_input", "input")
	audioOut := min(u.AudioOutput, u.Output)
	reasoning := int64(0) // apart only where it has a rate of its own
	if _, has := rates["reasoning_output"]; has {
		reasoning = min(u.Reasoning, u.Output-audioOut)
	}
	add(u.Output-audioOut-reasoning, "output")
	add(reasoning, "reasoning_output")
	add(audioOut, "audio_output", "output")
	to, toolsOK := r.tools(model, u.ServerToolCalls, to)
	return to, ok && toolsOK
}

// tools appends the calls of tools that the provider ran, by name.
func (r *Row) tools(model string, calls map[string]int64, to []Line) ([]Line, bool) {
	if len(calls) == 0 {
		return to, true
	}
	ok := true
	names := make([]string, 0, len(calls))
	for tool := range calls {
		names = append(names, tool)
	}
	slices.Sort(names)
	for _, tool := range names {
		n := calls[tool]
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

// sum adds the lines in 128 bits and rounds once, half to even. A quantity is
// at most 1e9 and a rate 1e13, so a line is below 2^84 millionths of a nano-USD
// and 2^44 lines would fit.
func sum(lines []Line) llm.Nano {
	const unit = 1_000_000
	var hi, lo uint64
	for _, l := range lines {
		h, x := bits.Mul64(uint64(l.Quantity)*uint64(unit/l.Per), uint64(l.Rate)) // 1e12 × 1e13
		var carry uint64
		lo, carry = bits.Add64(lo, x, 0)
		hi, _ = bits.Add64(hi, h, carry)
	}
	if hi >= unit/2 {
		return math.MaxInt64 // beyond nine thousand million dollars: saturate
	}
	q, rest := bits.Div64(hi, lo, unit)
	if rest > unit/2 || rest == unit/2 && q&1 == 1 {
		q++
	}
	return llm.Nano(min(q, math.MaxInt64))
}
