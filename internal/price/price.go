// Package price knows what models cost. A Catalogue holds dated price rows,
// embedded as JSON with their sources; Cost turns a usage into integer
// nano-USD. A model without a row has no cost: unknown is not zero.
//
// It knows tokens and money, nothing of requests, keys or Calls.
package price

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"
)

//go:embed catalogue.json
var embedded []byte

// Default is the catalogue that comes with this version.
var Default = sync.OnceValue(func() *Catalogue {
	c, err := Parse(embedded)
	if err != nil {
		panic("price: the embedded catalogue: " + err.Error()) // our own bug, caught by any test
	}
	c.from(BuiltIn)
	return c
})

// A Model is a model of a provider and what it costs.
type Model struct {
	Provider      string   `json:"provider"` // its home: openai, anthropic, gemini, deepseek …
	ID            string   `json:"id"`
	Name          string   `json:"name,omitempty"`
	Exact         []string `json:"exact,omitempty"`          // further names
	Prefix        []string `json:"prefix,omitempty"`         // beginnings of further names
	Except        []string `json:"except,omitempty"`         // a name with one of these in it is not of the prefix: -tts
	ContextWindow int64    `json:"context_window,omitempty"` // tokens; 0 if unknown
	MaxOutput     int64    `json:"max_output,omitempty"`     // tokens; 0 if unknown
	Deactivated   string   `json:"deactivated,omitempty"`    // date of the announced end, YYYY-MM-DD
	Note          string   `json:"note,omitempty"`
	Source        string   `json:"source,omitempty"`
	Confidence    string   `json:"confidence,omitempty"`
	Rows          []Row    `json:"rows"`
}

// A Row is the price of a model for a time and a service tier.
type Row struct {
	Row     string          `json:"row"`  // tier/number, append-only: a price change adds a row
	Tier    string          `json:"tier"` // standard, batch, flex, priority
	From    Date            `json:"from,omitzero"`
	Until   Date            `json:"until,omitzero"` // exclusive
	When    *When           `json:"when,omitempty"`
	Label   string          `json:"label,omitempty"`
	Source  string          `json:"source,omitempty"`
	Rates   Rates           `json:"rates"`
	Long    []Long          `json:"long,omitempty"`
	Per1000 map[string]Rate `json:"per_1000,omitempty"` // USD per 1,000 calls of a tool the provider runs

	// Where the row comes from. A file may hold both, since a catalogue that was
	// printed may be installed, but what it says of Origin does not count.
	Origin string `json:"origin,omitempty"` // BuiltIn, Installed or Overrides
	Dated  string `json:"dated,omitempty"`  // the date of its source, else of its catalogue
}

// The origins of rows.
const (
	BuiltIn   = "built-in"
	Installed = "installed" // see Update
	Overrides = "overrides" // see With
)

// Long replaces all rates for the whole of a request whose input, cache
// included, is longer.
type Long struct {
	Over  int64 `json:"over_input_tokens"`
	Rates Rates `json:"rates"`
}

// A Date is a day in UTC, YYYY-MM-DD in JSON. The zero Date is open.
type Date struct{ time.Time }

// UnmarshalJSON reads "2026-11-23".
func (d *Date) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return fmt.Errorf("date %.30q is not YYYY-MM-DD", s)
	}
	d.Time = t
	return nil
}

// MarshalJSON writes "2026-11-23".
func (d Date) MarshalJSON() ([]byte, error) { return json.Marshal(d.Format(time.DateOnly)) }

// Complete makes a model that came as JSON from a server, and not through Parse,
// one whose rows know their hours.
func (m *Model) Complete() error {
	for i := range m.Rows {
		if w := m.Rows[i].When; w != nil {
			if err := w.parse(Default().calendars); err != nil {
				return fmt.Errorf("%.60s/%.60s: %w", m.Provider, m.ID, err)
			}
		}
	}
	return nil
}

// check completes m and says what is wrong with it.
func (m *Model) check(calendars map[string]calendar, at place) {
	m.Provider = vendorOf(m.Provider)
	if m.Provider == "" || m.ID == "" {
		at.fail("provider or id is missing")
	}
	if m.ContextWindow < 0 || m.MaxOutput < 0 {
		at.fail("a limit is negative")
	}
	if m.Deactivated != "" {
		if _, err := time.Parse(time.DateOnly, m.Deactivated); err != nil {
			at.in("deactivated").fail("%.30q is not YYYY-MM-DD", m.Deactivated)
		}
	}
	if slices.Contains(m.Exact, "") || slices.Contains(m.Prefix, "") || slices.Contains(m.Except, "") {
		at.fail("exact, prefix or except holds an empty name")
	}
	seen, count := map[string]bool{}, map[string]int{}
	for i := range m.Rows {
		r, at := &m.Rows[i], at.in("rows", i)
		if r.Tier = tierOf(r.Tier); r.Row == "" {
			count[r.Tier]++
			r.Row = fmt.Sprintf("%s/%d", r.Tier, count[r.Tier])
		}
		if seen[r.Row] {
			at.fail("row %.60s is there twice", r.Row)
		}
		seen[r.Row] = true
		r.check(calendars, at)
	}
}

func (r *Row) check(calendars map[string]calendar, at place) {
	if !r.From.IsZero() && !r.Until.IsZero() && !r.From.Before(r.Until.Time) {
		at.fail("it ends before it begins")
	}
	if r.When != nil {
		if err := r.When.parse(calendars); err != nil {
			at.in("when").fail("%v", err)
		}
	}
	r.Rates.check(at.in("rates"))
	for i, l := range r.Long {
		at := at.in("long", i)
		if l.Over <= 0 || i > 0 && l.Over <= r.Long[i-1].Over {
			at.fail("over_input_tokens must be positive and grow")
		}
		l.Rates.check(at.in("rates"))
	}
}
