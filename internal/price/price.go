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
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/sheepgate/sheepgate/internal/llm"
)

//go:embed catalogue.json
var embedded []byte

// Default is the catalogue that comes with this version.
var Default = sync.OnceValue(func() *Catalogue {
	c, err := Parse(embedded)
	if err != nil {
		panic("price: the embedded catalogue: " + err.Error()) // our own bug, caught by any test
	}
	return c
})

// A Catalogue is an immutable set of models and their prices.
type Catalogue struct {
	version string
	models  []Model
	exact   map[string][]int // provider/name → models, in order of preference
	home    map[string][]string
}

// A Model is a model of a provider and what it costs.
type Model struct {
	Provider      string   `json:"provider"` // its home: openai, anthropic, gemini, deepseek …
	ID            string   `json:"id"`
	Name          string   `json:"name,omitempty"`
	Exact         []string `json:"exact,omitempty"`          // further names
	Prefix        []string `json:"prefix,omitempty"`         // beginnings of further names
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
}

// Long replaces all rates for the whole of a request whose input is longer.
type Long struct {
	Over  int64 `json:"over_input_tokens"`
	Rates Rates `json:"rates"`
}

// Rates are per million tokens, by kind: input, output, cache_read,
// cache_write_5m, cache_write_1h, audio_input, audio_cache_read, audio_output.
type Rates map[string]Rate

// A Rate is nano-USD per million tokens, or per thousand calls: $0.42 is
// 420,000,000. In JSON it is dollars.
type Rate int64

// maxRate bounds a rate at 10,000 dollars, so that sums cannot overflow.
const maxRate = 10_000 * 1_000_000_000

// UnmarshalJSON reads dollars, exactly.
func (r *Rate) UnmarshalJSON(b []byte) error {
	n, err := nanoDollars(string(b))
	if err != nil {
		return err
	}
	*r = Rate(n)
	return nil
}

// MarshalJSON writes dollars.
func (r Rate) MarshalJSON() ([]byte, error) {
	s := strings.TrimPrefix(llm.Nano(r).String(), "$")
	s = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	return []byte(s), nil
}

// nanoDollars reads a plain decimal number of dollars with at most nine places.
func nanoDollars(s string) (int64, error) {
	whole, frac, _ := strings.Cut(s, ".")
	if len(whole) == 0 || len(whole) > 5 || len(frac) > 9 {
		return 0, fmt.Errorf("rate %.30q is not a plain number of dollars up to 10000", s)
	}
	var n int64
	for _, c := range whole + frac + "000000000"[len(frac):] {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("rate %.30q is not a plain number of dollars", s)
		}
		n = n*10 + int64(c-'0')
	}
	if n > maxRate {
		return 0, fmt.Errorf("rate %.30q is above 10000 dollars", s)
	}
	return n, nil
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

// When limits a row to a part of the day in UTC, [From, To).
type When struct {
	From     string   `json:"utc_from"` // 00:30:00Z
	To       string   `json:"utc_to"`
	Weekdays []string `json:"weekdays,omitempty"` // mon … sun; empty means all
	Except   string   `json:"except,omitempty"`   // a calendar: cn_public_holidays
	from, to time.Duration
}

func (w *When) parse() error {
	for _, p := range []struct {
		s string
		d *time.Duration
	}{{w.From, &w.from}, {w.To, &w.to}} {
		t, err := time.Parse("15:04:05Z", p.s)
		if err != nil {
			return fmt.Errorf("time of day %.30q is not like 00:30:00Z", p.s)
		}
		*p.d = time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second
	}
	return nil
}

// holds reports whether the window contains t. The calendar of Chinese public
// holidays is announced year by year and is not part of the catalogue: on such
// a day the peak price is booked, which is too much rather than too little.
func (w *When) holds(t time.Time) bool {
	t = t.UTC()
	if len(w.Weekdays) > 0 && !slices.Contains(w.Weekdays, strings.ToLower(t.Weekday().String()[:3])) {
		return false
	}
	d := t.Sub(t.Truncate(24 * time.Hour))
	if w.from <= w.to {
		return d >= w.from && d < w.to
	}
	return d >= w.from || d < w.to
}

// Parse reads a catalogue, strictly.
func Parse(data []byte) (*Catalogue, error) {
	var in struct {
		Version string                     `json:"version"`
		Unit    string                     `json:"unit"`
		Sources map[string]json.RawMessage `json:"sources"`
		Models  []Model                    `json:"models"`
	}
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return nil, fmt.Errorf("price catalogue: %w", err)
	}
	for i := range in.Models {
		if err := in.Models[i].check(); err != nil {
			return nil, fmt.Errorf("price catalogue: model %d: %w", i+1, err)
		}
	}
	return index(in.Version, in.Models), nil
}

func (m *Model) check() error {
	if m.Provider == "" || m.ID == "" {
		return fmt.Errorf("provider or id is missing")
	}
	seen := map[string]bool{}
	for i := range m.Rows {
		r := &m.Rows[i]
		if r.Tier == "" {
			r.Tier = "standard"
		}
		if r.Row == "" {
			r.Row = fmt.Sprintf("%s/%d", r.Tier, i+1)
		}
		if seen[r.Row] {
			return fmt.Errorf("%s/%s: row %s is there twice", m.Provider, m.ID, r.Row)
		}
		seen[r.Row] = true
		if r.When != nil {
			if err := r.When.parse(); err != nil {
				return fmt.Errorf("%s/%s: %w", m.Provider, m.ID, err)
			}
		}
		if _, ok := r.Rates["input"]; !ok {
			return fmt.Errorf("%s/%s: row %s has no input rate", m.Provider, m.ID, r.Row)
		}
	}
	return nil
}

func index(version string, models []Model) *Catalogue {
	c := &Catalogue{version: version, models: models, exact: map[string][]int{}, home: map[string][]string{}}
	add := func(m *Model, i int, name string) {
		c.exact[m.Provider+"/"+name] = append(c.exact[m.Provider+"/"+name], i)
		if !slices.Contains(c.home[name], m.Provider) {
			c.home[name] = append(c.home[name], m.Provider)
		}
	}
	for i := range models {
		add(&models[i], i, models[i].ID)
	}
	for i := range models {
		for _, n := range models[i].Exact {
			add(&models[i], i, n)
		}
	}
	return c
}

// With is c with the models of o before its own: a user's rows win.
func (c *Catalogue) With(o *Catalogue) *Catalogue {
	return index(c.version, append(slices.Clone(o.models), c.models...))
}

// Version is the date of the catalogue's facts.
func (c *Catalogue) Version() string { return c.version }

// Models lists the models by provider and id.
func (c *Catalogue) Models() []Model {
	list := slices.Clone(c.models)
	sort.SliceStable(list, func(i, j int) bool {
		return list[i].Provider+"/"+list[i].ID < list[j].Provider+"/"+list[j].ID
	})
	return list
}

// snapshot is the date at the end of a dated model name: -2025-04-14,
// -20250929, -0613.
var snapshot = regexp.MustCompile(`-(\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|\d{3}|latest)$`)

// Find gives the model that a provider's name means: its id, a further name, a
// dated snapshot of one, or the longest prefix. A provider that is not home to
// any model (an aggregator, a server of the user's own) gets the model's home
// entry; vendor/model names count as the vendor's.
func (c *Catalogue) Find(provider, model string) (*Model, bool) {
	if m := c.find(provider, model); m != nil {
		return m, true
	}
	if c.isHome(provider) {
		return nil, false
	}
	if vendor, rest, ok := strings.Cut(model, "/"); ok {
		if m := c.find(vendorOf(vendor), rest); m != nil {
			return m, true
		}
		if m := c.find(vendorOf(vendor), strings.ReplaceAll(rest, ".", "-")); m != nil { // openrouter: anthropic/claude-sonnet-4.5
			return m, true
		}
		model = rest
	}
	for _, h := range c.Home(model) {
		if m := c.find(h, model); m != nil {
			return m, true
		}
	}
	return nil, false
}

// vendorOf maps the vendor part of an aggregator's model name.
func vendorOf(s string) string {
	switch s {
	case "google":
		return "gemini"
	case "x-ai":
		return "xai"
	case "mistralai":
		return "mistral"
	}
	return s
}

func (c *Catalogue) isHome(provider string) bool {
	return slices.ContainsFunc(c.models, func(m Model) bool { return m.Provider == provider })
}

func (c *Catalogue) find(provider, model string) *Model {
	for name := model; ; {
		if is := c.exact[provider+"/"+name]; len(is) > 0 {
			return &c.models[is[0]]
		}
		cut := snapshot.FindString(name)
		if cut == "" || cut == name {
			break
		}
		name = strings.TrimSuffix(name, cut)
	}
	var best *Model
	length := 0
	for i := range c.models {
		if c.models[i].Provider != provider {
			continue
		}
		for _, p := range c.models[i].Prefix {
			if len(p) > length && strings.HasPrefix(model, p) {
				best, length = &c.models[i], len(p)
			}
		}
	}
	return best
}

// Home lists the providers that the catalogue gives a bare model name to.
func (c *Catalogue) Home(model string) []string {
	if h := c.home[model]; len(h) > 0 {
		return h
	}
	if strings.Contains(model, "/") {
		return nil
	}
	var homes []string
	for i := range c.models {
		if p := c.models[i].Provider; !slices.Contains(homes, p) && c.find(p, model) != nil {
			homes = append(homes, p)
		}
	}
	return homes
}

// Near lists at most n model ids that look like name, the likest first.
func (c *Catalogue) Near(name string, n int) []string {
	if len(name) > 128 {
		return nil
	}
	type scored struct {
		id   string
		dist int
	}
	var list []scored
	low := strings.ToLower(name)
	for i := range c.models {
		id := c.models[i].ID
		if d := distance(low, strings.ToLower(id)); d <= max(2, len(name)/3) && !slices.ContainsFunc(list, func(s scored) bool { return s.id == id }) {
			list = append(list, scored{id, d})
		}
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].dist < list[j].dist })
	var ids []string
	for _, s := range list[:min(n, len(list))] {
		ids = append(ids, s.id)
	}
	return ids
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			d := diag
			if a[i-1] != b[j-1] {
				d++
			}
			diag = row[j]
			row[j] = min(d, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

// ParseYAML reads a user's own rows: {models: […]} in YAML or JSON, of the same
// form as the catalogue.
func ParseYAML(data []byte) (*Catalogue, error) {
	j, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, fmt.Errorf("price catalogue: %w", err)
	}
	return Parse(j)
}
