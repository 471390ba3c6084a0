package store

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
)

// ErrBusy says that another Reprice is under way: there is one at a time.
var ErrBusy = errors.New("calls are being repriced already")

// A Repricing selects Calls and says what they cost.
type Repricing struct {
	From, To time.Time // started_at in [From, To); zero means open
	Filter   Filter
	Unpriced bool // only Calls whose cost is not known
	DryRun   bool // nothing is changed

	// Price sets what a Call costs, its Cost, Unpriced and PriceRow and the Cost
	// and Unpriced of its attempts, nothing else, and reports whether that
	// changed any of it. It sees what a price derives from: the id, the start,
	// provider, model, status and HTTP status, the attempts, the usage without
	// Raw, and what the Call costs so far; the rest may be missing. It may be
	// asked twice about a Call and must then answer the same.
	Price func(*call.Call) bool

	// Progress, if there is one, is told how many Calls have been looked at.
	Progress func(calls int64)
}

// Repriced is what became of the Calls of one model. Sums are in nano-USD and
// over the Calls whose cost is known; they stop at the largest Nano.
type Repriced struct {
	Provider string   `json:"provider"`
	Model    string   `json:"model"`
	Calls    int64    `json:"calls"` // that were selected
	Changed  int64    `json:"changed"`
	Priced   int64    `json:"newly_priced"` // had no cost and have one now
	Unpriced int64    `json:"unpriced"`     // have no cost now
	Old      llm.Nano `json:"old_nano_usd"`
	New      llm.Nano `json:"new_nano_usd"`
}

// MaxRepriced bounds the models that a Tally tells apart: the rest is one, Other.
const MaxRepriced = 1000

// A Tally adds up, by model, what a repricing does. The zero Tally is empty.
type Tally struct {
	at   map[[2]string]int
	list []Repriced
}

// Add counts a Call as it was and as it is now.
func (t *Tally) Add(was llm.Nano, unpriced bool, c *call.Call, changed bool) {
	one := Repriced{Provider: c.Provider, Model: c.Model, Calls: 1}
	if changed {
		one.Changed = 1
	}
	if !unpriced {
		one.Old = was
	}
	switch {
	case c.Unpriced:
		one.Unpriced = 1
	case unpriced:
		one.Priced, one.New = 1, c.Cost
	default:
		one.New = c.Cost
	}
	t.add(&one)
}

// Merge adds o to t.
func (t *Tally) Merge(o *Tally) {
	for i := range o.list {
		t.add(&o.list[i])
	}
}

func (t *Tally) add(o *Repriced) {
	key := [2]string{o.Provider, o.Model}
	i, ok := t.at[key]
	if !ok && len(t.list) >= MaxRepriced {
		key = [2]string{"", Other}
		i, ok = t.at[key]
	}
	if !ok {
		if t.at == nil {
			t.at = map[[2]string]int{}
		}
		i = len(t.list)
		t.at[key] = i
		t.list = append(t.list, Repriced{Provider: key[0], Model: key[1]})
	}
	t.list[i].Add(o)
}

// Add sums two.
func (r *Repriced) Add(o *Repriced) {
	r.Calls += o.Calls
	r.Changed += o.Changed
	r.Priced += o.Priced
	r.Unpriced += o.Unpriced
	r.Old, r.New = addNano(r.Old, o.Old), addNano(r.New, o.New)
}

// addNano adds costs, which are not negative.
func addNano(a, b llm.Nano) llm.Nano {
	if b > 0 && a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// Calls is how many have been counted.
func (t *Tally) Calls() (n int64) {
	for i := range t.list {
		n += t.list[i].Calls
	}
	return n
}

// List is what was counted, by provider and model.
func (t *Tally) List() []Repriced {
	list := slices.Clone(t.list)
	slices.SortFunc(list, func(a, b Repriced) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Model, b.Model))
	})
	return list
}
