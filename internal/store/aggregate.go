package store

import (
	"cmp"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
)

// maxPoints bounds the points of one series.
const maxPoints = 150_000 // 90 days by minute are 129,600

// An Aggregation answers one Query from the Calls given to Add, in any order.
// It is the plain meaning of a Query; engines may be quicker, never different.
type Aggregation struct {
	q      Query
	keep   func(*call.Call) bool
	dims   []func(*call.Call) string
	groups map[string]*group
	zone   *time.Location
}

type group struct {
	values []string
	steps  map[int64]*cell
	total  cell
}

// NewAggregation checks q. Its error is a *QueryError.
func NewAggregation(q Query) (*Aggregation, error) {
	a := &Aggregation{q: q, groups: map[string]*group{}, zone: q.Zone}
	if a.zone == nil {
		a.zone = time.UTC
	}
	if q.From.IsZero() || q.To.IsZero() || !q.From.Before(q.To) {
		return nil, badQuery("from must lie before to")
	}
	if len(q.Measures) == 0 {
		return nil, badQuery("measures is empty")
	}
	for _, m := range q.Measures {
		if _, ok := measures[m]; !ok {
			names := make([]string, 0, len(measures))
			for n := range measures {
				names = append(names, n)
			}
			sort.Strings(names)
			return nil, badQuery("%.60q is no measure; there are %s", m, strings.Join(names, ", "))
		}
	}
	if len(q.GroupBy) > 8 {
		return nil, badQuery("group_by names more than 8 dimensions")
	}
	for _, d := range q.GroupBy {
		f, err := Dimension(d)
		if err != nil {
			return nil, err
		}
		a.dims = append(a.dims, f)
	}
	if q.Step.Fixed > 0 && q.To.Sub(q.From)/q.Step.Fixed > maxPoints {
		return nil, badQuery("the range holds more than %d steps", maxPoints)
	}
	var err error
	a.keep, err = q.Filter.Compile(false)
	return a, err
}

// Add counts c if it matches.
func (a *Aggregation) Add(c *call.Call) {
	if c.StartedAt.Before(a.q.From) || !c.StartedAt.Before(a.q.To) || !a.keep(c) {
		return
	}
	values := make([]string, len(a.dims))
	for i, d := range a.dims {
		values[i] = d(c)
	}
	key := strings.Join(values, "\x00")
	g := a.groups[key]
	if g == nil {
		g = &group{values: values, steps: map[int64]*cell{}}
		a.groups[key] = g
	}
	g.total.add(c)
	if a.q.Step.IsZero() {
		return
	}
	t := a.q.Step.Start(c.StartedAt, a.zone).Unix()
	s := g.steps[t]
	if s == nil {
		s = &cell{}
		g.steps[t] = s
	}
	s.add(c)
}

// Result is the answer.
func (a *Aggregation) Result() *Result {
	groups := make([]*group, 0, len(a.groups))
	var all cell
	for _, g := range a.groups {
		groups = append(groups, g)
		all.merge(&g.total)
	}
	first := measures[a.q.Measures[0]]
	slices.SortFunc(groups, func(x, y *group) int {
		if c := cmp.Compare(first(&y.total).number(), first(&x.total).number()); c != 0 {
			return c
		}
		return slices.Compare(x.values, y.values)
	})
	if len(groups) > MaxGroups {
		rest := &group{steps: map[int64]*cell{}}
		for range a.dims {
			rest.values = append(rest.values, Other)
		}
		for _, g := range groups[MaxGroups:] {
			rest.total.merge(&g.total)
			for t, c := range g.steps {
				if rest.steps[t] == nil {
					rest.steps[t] = &cell{}
				}
				rest.steps[t].merge(c)
			}
		}
		groups = append(groups[:MaxGroups], rest)
	}
	r := &Result{Series: []Series{}, Total: a.values(&all)}
	for _, g := range groups {
		s := Series{Group: map[string]string{}, Points: []Point{}, Total: a.values(&g.total)}
		for i, d := range a.q.GroupBy {
			s.Group[d] = g.values[i]
		}
		if a.q.Step.IsZero() {
			s.Points = append(s.Points, Point{a.q.From.Unix(), s.Total})
		}
		for t, c := range g.steps {
			s.Points = append(s.Points, Point{t, a.values(c)})
		}
		slices.SortFunc(s.Points, func(x, y Point) int { return cmp.Compare(x.Time, y.Time) })
		r.Series = append(r.Series, s)
	}
	return r
}

func (a *Aggregation) values(c *cell) Values {
	v := make(Values, len(a.q.Measures))
	for i, m := range a.q.Measures {
		v[i] = measures[m](c)
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
