package price

import (
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
)

// A Catalogue is an immutable set of models and their prices.
type Catalogue struct {
	version   string
	models    []Model
	calendars map[string]calendar
	vendors   map[string]bool // providers whose models are all here: what is not has no price

	// Made by index.
	exact    map[name]int        // → models
	prefixes map[string][]prefix // by provider, the longest first
	homes    map[string][]string // exact name → providers
	order    []string            // providers, in order of models
	rows     map[*Row]string     // the names that Calls keep: provider/model/tier/number

	found *found
}

// found is what Find has answered: a gateway asks the same again and again, and
// a name that takes all rules to be understood costs as little as any other.
type found struct {
	mu sync.RWMutex
	m  map[name]*Model // nil: there is none
}

// maxFound bounds what is remembered: clients may ask for any name.
const maxFound = 4096

type name struct{ provider, model string }

type prefix struct {
	text  string
	model int
}

func (c *Catalogue) index() {
	c.exact, c.prefixes, c.homes = map[name]int{}, map[string][]prefix{}, map[string][]string{}
	c.rows, c.found = map[*Row]string{}, &found{m: map[name]*Model{}}
	add := func(i int, model string) {
		p := c.models[i].Provider
		if _, ok := c.exact[name{p, model}]; ok {
			return
		}
		c.exact[name{p, model}] = i
		c.homes[model] = append(c.homes[model], p)
	}
	for i := range c.models { // ids go before the further names of any model
		add(i, c.models[i].ID)
	}
	for i := range c.models {
		m := &c.models[i]
		for j := range m.Rows {
			c.rows[&m.Rows[j]] = m.Provider + "/" + m.ID + "/" + m.Rows[j].Row
		}
		for _, n := range m.Exact {
			add(i, n)
		}
		for _, p := range m.Prefix {
			c.prefixes[m.Provider] = append(c.prefixes[m.Provider], prefix{p, i})
		}
		if !slices.Contains(c.order, m.Provider) {
			c.order = append(c.order, m.Provider)
		}
	}
	for _, list := range c.prefixes {
		sort.SliceStable(list, func(i, j int) bool { return len(list[i].text) > len(list[j].text) })
	}
}

// from says where the rows come from.
func (c *Catalogue) from(origin string) {
	for i := range c.models {
		for j := range c.models[i].Rows {
			c.models[i].Rows[j].Origin = origin
		}
	}
}

// With is c with the rows of o, the user's own, before its own: where one of
// them holds for a tier and a time it is the price. A model that both have is
// one model with the names of both, so that a row for gpt-4.1 prices
// gpt-4.1-2025-04-14 too. The ids of o's rows begin with user/.
func (c *Catalogue) With(o *Catalogue) *Catalogue {
	return c.over(o, func(m Model, base *Model) []Row {
		for i := range m.Rows {
			r := &m.Rows[i]
			r.Origin = Overrides
			r.Row = "user/" + strings.TrimPrefix(r.Row, "user/")
		}
		return slices.Concat(m.Rows, base.Rows)
	})
}

// Update is c where o has taken the place of what it names: a model of o has
// o's rows and no others, with the names of both; a model that o does not name
// stays as it is. Only rows tell what holds when: a file that is to leave the
// past alone keeps the rows of the past.
func (c *Catalogue) Update(o *Catalogue) *Catalogue {
	n := c.over(o, func(m Model, _ *Model) []Row {
		for i := range m.Rows {
			m.Rows[i].Origin = Installed
		}
		return m.Rows
	})
	if o.version != "" {
		n.version = o.version
	}
	return n
}

// over is c with the models of o before its own. rows makes the rows of a model
// of o, which are its to change, and of c's model of the same id or an empty one.
func (c *Catalogue) over(o *Catalogue, rows func(m Model, base *Model) []Row) *Catalogue {
	n := &Catalogue{version: c.version, vendors: c.vendors, calendars: maps.Clone(c.calendars)}
	if n.calendars == nil {
		n.calendars = map[string]calendar{}
	}
	maps.Copy(n.calendars, o.calendars)
	merged := map[int]bool{}
	for _, m := range o.models {
		m.Rows = slices.Clone(m.Rows)
		for i := range m.Rows {
			if r := &m.Rows[i]; r.When != nil && r.When.Except != "" && r.When.except == nil { // c's calendar
				w := *r.When
				w.except = c.calendars[w.Except].Days
				r.When = &w
			}
		}
		if i, ok := c.exact[name{m.Provider, m.ID}]; ok && c.models[i].ID == m.ID {
			merged[i] = true
			base := &c.models[i]
			m.Rows = rows(m, base)
			m = join(m, base)
		} else {
			m.Rows = rows(m, &Model{})
		}
		n.models = append(n.models, m)
	}
	for i := range c.models {
		if !merged[i] {
			n.models = append(n.models, c.models[i])
		}
	}
	n.index()
	return n
}

// join is m where it says something, else base, with the names of both.
func join(m Model, base *Model) Model {
	j := *base
	for _, f := range []struct{ to, from *string }{{&j.Name, &m.Name}, {&j.Deactivated, &m.Deactivated}, {&j.Note, &m.Note}, {&j.Source, &m.Source}, {&j.Confidence, &m.Confidence}} {
		if *f.from != "" {
			*f.to = *f.from
		}
	}
	if m.ContextWindow > 0 {
		j.ContextWindow = m.ContextWindow
	}
	if m.MaxOutput > 0 {
		j.MaxOutput = m.MaxOutput
	}
	j.Exact = slices.Concat(m.Exact, base.Exact)
	j.Prefix = slices.Concat(m.Prefix, base.Prefix)
	j.Except = slices.Concat(m.Except, base.Except)
	j.Rows = m.Rows
	return j
}

// Version is the date of the catalogue's facts.
func (c *Catalogue) Version() string { return c.version }

// Models lists the models by provider and id.
func (c *Catalogue) Models() []Model {
	list := slices.Clone(c.models)
	slices.SortFunc(list, func(a, b Model) int {
		return strings.Compare(a.Provider+"\x00"+a.ID, b.Provider+"\x00"+b.ID)
	})
	return list
}

// Find gives the model that a provider's name means: its id, a further name, a
// dated snapshot of one, or the longest prefix. Names are compared as they are
// written: every provider tells upper from lower case.
//
// A provider that the catalogue is not about (an aggregator, a server of the
// user's own, sim) gets the entry of the model's home; there vendor/model
// counts as the vendor's, also in Bedrock's form us.anthropic.model-v1:0.
func (c *Catalogue) Find(provider, model string) (*Model, bool) {
	f := c.found
	f.mu.RLock()
	m, known := f.m[name{provider, model}]
	f.mu.RUnlock()
	if known {
		return m, m != nil
	}
	m, _ = c.search(provider, model)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.m) >= maxFound {
		for any := range f.m { // whatever is asked again comes back
			delete(f.m, any)
			break
		}
	}
	f.m[name{strings.Clone(provider), strings.Clone(model)}] = m
	return m, m != nil
}

// search is Find without its memory.
func (c *Catalogue) search(provider, model string) (*Model, bool) {
	model = strings.TrimPrefix(model, "models/") // Gemini's resource names
	if m := c.find(provider, model); m != nil {
		return m, true
	}
	if c.vendors[provider] {
		return nil, false
	}
	vendor, rest, ok := strings.Cut(model, "/")
	if !ok {
		vendor, rest, ok = bedrock(model)
	}
	if !ok {
		for _, h := range c.Home(model) {
			if m := c.find(h, model); m != nil {
				return m, true
			}
		}
		return nil, false
	}
	vendor = vendorOf(vendor)
	if m := c.find(vendor, rest); m != nil {
		return m, true
	}
	m := c.find(vendor, strings.ReplaceAll(rest, ".", "-")) // openrouter: anthropic/claude-sonnet-4.5
	return m, m != nil
}

// bedrock takes apart us.anthropic.claude-sonnet-4-5-20250929-v1:0.
// https://docs.aws.amazon.com/bedrock/latest/userguide/models-supported.html
func bedrock(model string) (vendor, rest string, ok bool) {
	model, _, _ = strings.Cut(model, ":")
	for _, region := range [...]string{"us.", "eu.", "apac.", "au.", "jp.", "global."} {
		model = strings.TrimPrefix(model, region)
	}
	if rest, ok = strings.CutPrefix(model, "anthropic."); !ok {
		return "", "", false
	}
	if i := strings.LastIndex(rest, "-v"); i > 0 && allDigits(rest[i+2:]) {
		rest = rest[:i]
	}
	return "anthropic", rest, true
}

// vendorOf maps the names that others give a vendor to ours.
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

func (c *Catalogue) find(provider, model string) *Model {
	if i, ok := c.exact[name{provider, model}]; ok {
		return &c.models[i]
	}
	for base, date := snapshot(model); base != ""; base, date = snapshot(base) {
		if i, ok := c.exact[name{provider, base}]; ok && c.models[i].covers(base, date) {
			return &c.models[i]
		}
	}
	for _, p := range c.prefixes[provider] {
		if strings.HasPrefix(model, p.text) && !slices.ContainsFunc(c.models[p.model].Except, func(s string) bool { return strings.Contains(model, s) }) {
			return &c.models[p.model]
		}
	}
	return nil
}

// covers reports whether a snapshot that m does not name may be taken for m. One
// that is older than all it names had a price of its own: gpt-4o-2024-05-13.
func (m *Model) covers(base, date string) bool {
	oldest := ""
	for _, n := range m.Exact {
		if b, d := snapshot(n); b == base && len(d) == len(date) && (oldest == "" || d < oldest) {
			oldest = d
		}
	}
	return oldest == "" || date >= oldest
}

// snapshot cuts what makes a name one of a version: -2025-04-14, -20250929,
// -09-2025, -0613, -001, @20250929 or -latest. base is empty if nothing does.
func snapshot(model string) (base, date string) {
	for _, form := range [...]string{"-0000-00-00", "-00-0000", "-00000000", "@00000000", "-0000", "-000", "-latest"} {
		i := len(model) - len(form)
		if i <= 0 {
			continue
		}
		if form == "-latest" && model[i:] == form || form != "-latest" && hasForm(model[i:], form) {
			return model[:i], model[i+1:]
		}
	}
	return "", ""
}

// hasForm compares s to a form in which 0 stands for any digit.
func hasForm(s, form string) bool {
	for i := range len(form) {
		if form[i] == '0' && (s[i] < '0' || s[i] > '9') || form[i] != '0' && s[i] != form[i] {
			return false
		}
	}
	return true
}

func allDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// Home lists the providers that the catalogue gives a bare model name to.
func (c *Catalogue) Home(model string) []string {
	if h := c.homes[model]; len(h) > 0 {
		return slices.Clone(h)
	}
	if strings.Contains(model, "/") {
		return nil
	}
	var homes []string
	for _, p := range c.order {
		if c.find(p, model) != nil {
			homes = append(homes, p)
		}
	}
	return homes
}
