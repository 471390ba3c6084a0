package store

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
)

// maxPoints bounds the points of one series.
const maxPoints = 150_000 // 90 days by minute are 129,600

// A Plan is a Query that has been checked.
type Plan struct {
	Query
	Needs  Needs
	Hidden []string // values of origin that do not count
}

// Plan checks q. Its error is a *QueryError.
func (q Query) Plan() (*Plan, error) {
	p := &Plan{Query: q}
	if p.Zone == nil {
		p.Zone = time.UTC
	}
	if q.From.IsZero() || q.To.IsZero() || !q.From.Before(q.To) {
		return nil, badQuery("from must lie before to")
	}
	if len(q.Measures) == 0 {
		return nil, badQuery("measures is empty")
	}
	for _, name := range q.Measures {
		m, ok := measures[name]
		if !ok {
			return nil, badQuery("%.60q is no measure; there are %s", name, strings.Join(Measures(), ", "))
		}
		p.Needs |= m.needs
	}
	if len(q.GroupBy) > 8 {
		return nil, badQuery("group_by names more than 8 dimensions")
	}
	for _, d := range q.GroupBy {
		if _, err := Dimension(d); err != nil {
			return nil, err
		}
	}
	if q.Step.Fixed > 0 && q.To.Sub(q.From)/q.Step.Fixed > maxPoints {
		return nil, badQuery("the range holds more than %d steps", maxPoints)
	}
	if _, named := q.Filter["origin"]; !named {
		p.Hidden = call.Synthetic
	}
	return p, q.Filter.Check()
}

// Groups gathers the Cells of a Plan's groups and makes its Result.
type Groups struct {
	p      *Plan
	groups map[string]*group
	cells  int
}

type group struct {
	values []string
	steps  map[int64]*Cell
	total  Cell // with steps, only once they have been summed
	summed bool
}

// sum makes total of the steps.
func (x *group) sum() {
	if x.summed || x.steps == nil {
		return
	}
	x.summed = true
	latency, ttft := make([]Histogram, 0, len(x.steps)), make([]Histogram, 0, len(x.steps))
	for _, c := range x.steps {
		sums := *c
		latency, ttft = append(latency, c.Latency), append(ttft, c.TTFT)
		sums.Latency, sums.TTFT = nil, nil
		x.total.Merge(&sums)
	}
	x.total.Latency, x.total.TTFT = sumHistograms(latency), sumHistograms(ttft)
}

// NewGroups makes an empty collection.
func NewGroups(p *Plan) *Groups { return &Groups{p: p, groups: map[string]*group{}} }

// GroupKey is what tells groups apart.
func GroupKey(values []string) string { return strings.Join(values, "\x00") }

// Add merges a Cell into the group with the given values of GroupBy, at the
// step that starts at step, in Unix seconds. It keeps values, not c. Nothing is
// added once Top or Result was asked for.
func (g *Groups) Add(values []string, step int64, c *Cell) {
	key := GroupKey(values)
	x := g.groups[key]
	if x == nil {
		x = &group{values: values}
		g.groups[key] = x
		g.cells++
	}
	if g.p.Step.IsZero() {
		x.total.Merge(c)
		return
	}
	if x.steps == nil {
		x.steps = map[int64]*Cell{}
	}
	s := x.steps[step]
	if s == nil {
		s = &Cell{}
		x.steps[step] = s
		g.cells++
	}
	s.Merge(c)
}

// Len is how many Cells are held: what an engine bounds.
func (g *Groups) Len() int { return g.cells }

// Top are the keys of the groups that a Result shows by themselves.
func (g *Groups) Top() map[string]bool {
	top := map[string]bool{}
	for _, x := range g.ranked()[:min(len(g.groups), MaxGroups)] {
		top[GroupKey(x.values)] = true
	}
	return top
}

// ranked are the groups, the largest by the first measure first.
func (g *Groups) ranked() []*group {
	groups := make([]*group, 0, len(g.groups))
	first := measures[g.p.Measures[0]].value
	size := make(map[*group]float64, len(g.groups))
	for _, x := range g.groups {
		x.sum()
		groups = append(groups, x)
		size[x] = first(&x.total).number()
	}
	slices.SortFunc(groups, func(x, y *group) int {
		if c := cmp.Compare(size[y], size[x]); c != 0 {
			return c
		}
		return slices.Compare(x.values, y.values)
	})
	return groups
}

// Result is the answer. rest is what was folded by the engine already: Cells
// of groups that are not among the top ones, by step.
func (g *Groups) Result(rest *Groups) *Result {
	groups := g.ranked()
	other := &group{steps: map[int64]*Cell{}, summed: true}
	for range g.p.GroupBy {
		other.values = append(other.values, Other)
	}
	fold := func(x *group) {
		other.total.Merge(&x.total)
		for t, c := range x.steps {
			if other.steps[t] == nil {
				other.steps[t] = &Cell{}
			}
			other.steps[t].Merge(c)
		}
	}
	if len(groups) > MaxGroups {
		for _, x := range groups[MaxGroups:] {
			fold(x)
		}
		groups = groups[:MaxGroups]
	}
	if rest != nil {
		for _, x := range rest.groups {
			x.sum()
			fold(x)
		}
	}
	if other.total.Requests > 0 {
		groups = append(groups, other)
	}
	var all Cell
	for _, x := range groups {
		all.Merge(&x.total)
	}
	r := &Result{Series: make([]Series, 0, len(groups)), Total: g.values(&all)}
	for _, x := range groups {
		r.Series = append(r.Series, g.series(x))
	}
	return r
}

func (g *Groups) series(x *group) Series {
	s := Series{Group: map[string]string{}, Points: make([]Point, 0, len(x.steps)), Total: g.values(&x.total)}
	for i, d := range g.p.GroupBy {
		s.Group[d] = x.values[i]
	}
	if g.p.Step.IsZero() {
		s.Points = append(s.Points, Point{g.p.From.Unix(), s.Total})
	}
	for t, c := range x.steps {
		s.Points = append(s.Points, Point{t, g.values(c)})
	}
	slices.SortFunc(s.Points, func(x, y Point) int { return cmp.Compare(x.Time, y.Time) })
	return s
}

func (g *Groups) values(c *Cell) Values {
	v := make(Values, len(g.p.Measures))
	for i, m := range g.p.Measures {
		v[i] = measures[m].value(c)
	}
	return v
}

// number orders values; null is least.
func (v Value) number() float64 {
	switch v.Kind {
	case Int:
		return float64(v.Int)
	case Float:
		return v.Float
	}
	return -1
}
