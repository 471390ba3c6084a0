package local

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/sheepgate/sheepgate/internal/store"
)

// maxCells bounds what one answer may hold in memory while it is made; a
// question of more groups is asked twice, first for the largest groups.
const maxCells = 200_000

// mostCells is where even that ends.
const mostCells = 1_000_000

// Query implements store.Store.
func (s *Store) Query(ctx context.Context, in store.Query) (*store.Result, error) {
	plan, err := in.Plan()
	if err != nil {
		return nil, err
	}
	whole, err := s.gather(ctx, question{Plan: plan}, maxCells)
	if err == nil {
		return whole.named.Result(nil), nil
	}
	if !errors.Is(err, errTooMany) {
		return nil, err
	}
	return s.queryTwice(ctx, plan)
}

// queryTwice asks for the largest groups first, and then for them and the rest.
func (s *Store) queryTwice(ctx context.Context, plan *store.Plan) (*store.Result, error) {
	q := question{Plan: plan}
	rank := *plan
	rank.Step, rank.Measures = store.Step{}, plan.Measures[:1]
	again, err := rank.Plan()
	if err != nil {
		return nil, err
	}
	ranked, err := s.gather(ctx, question{Plan: again}, mostCells)
	if err != nil {
		return nil, tooMany(err)
	}
	q.top = ranked.named.Top()
	parts, err := s.gather(ctx, q, mostCells)
	if err != nil {
		return nil, tooMany(err)
	}
	return parts.named.Result(parts.rest), nil
}

var errTooMany = errors.New("too many groups and steps")

func tooMany(err error) error {
	if errors.Is(err, errTooMany) {
		return &store.QueryError{Msg: "the answer has too many groups and steps: ask for a shorter range, a longer step or fewer dimensions"}
	}
	return err
}

// answers are the partials of all blocks, added up.
type answers struct {
	named, rest *store.Groups // rest are those that q.top leaves out
}

// A task is a block to ask.
type task struct {
	block    block
	from, to int64  // started_at in microseconds, of a block that reaches beyond the range
	cache    string // the partial's key, "" if the block is not immutable or only a part counts
	rollup   rollup // the one that tells
}

// gather asks every block of the range, in parallel.
func (s *Store) gather(ctx context.Context, q question, most int) (*answers, error) {
	from, to := q.From.UnixMicro(), q.To.UnixMicro()
	tasks := s.tasks(q, from, to)
	first := int64(0) // the first step of the range
	if !q.Step.IsZero() {
		w := walker{step: q.Step, zone: q.Zone}
		first = w.start(from)
	}
	sum := &answers{named: store.NewGroups(q.Plan), rest: store.NewGroups(q.Plan)}
	var (
		mu     sync.Mutex // guards what follows
		next   int
		failed error
		wg     sync.WaitGroup
	)
	for range min(runtime.GOMAXPROCS(0), len(tasks)) {
		wg.Go(func() {
			var sc scratch
			for {
				mu.Lock()
				if failed == nil {
					failed = ctx.Err()
				}
				if failed != nil || next == len(tasks) {
					mu.Unlock()
					return
				}
				t := tasks[next]
				next++
				mu.Unlock()
				p, err := s.ask(ctx, q, t, &sc)
				mu.Lock()
				if err == nil {
					sum.add(p, first, to)
					if sum.named.Len()+sum.rest.Len() > most {
						err = errTooMany
					}
				}
				if err != nil && failed == nil {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return sum, failed
}

// tasks are the blocks that hold Calls of [from, to).
func (s *Store) tasks(q question, from, to int64) []task {
	v := s.look()
	shape := q.shape()
	var tasks []task
	for _, t := range v.tails {
		if t.n > 0 && t.first < to && t.last >= from {
			tasks = append(tasks, task{block: t, from: from, to: to})
		}
	}
	w := walker{step: q.Step, zone: q.Zone}
	for _, g := range v.segments {
		if sp := g.about.span(); sp.First >= to || sp.Last < from {
			continue
		}
		for i, sp := range g.Blocks {
			if sp.First >= to || sp.Last < from {
				continue
			}
			t := task{block: segBlock{g, i, nil}, from: from, to: to}
			whole := from <= sp.First && sp.Last < to
			if !whole && !q.Step.IsZero() { // cut where a step begins: whole steps of it count
				whole = (from <= sp.First || w.start(from)*1e6 == from) && (sp.Last < to || w.start(to)*1e6 == to)
			}
			if whole && q.top == nil {
				t.from, t.to = sp.First, sp.Last+1
				t.cache = fmt.Sprintf("%s\x00%d\x00%s", g.name, i, shape)
			}
			t.rollup = q.rollup(sp, t.from, t.to)
			tasks = append(tasks, t)
		}
	}
	return tasks
}

// shape tells questions apart but for their range.
func (q question) shape() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v\x00%s\x00%d\x00%q\x00%q\x00", q.Step, q.Zone, q.Needs, q.GroupBy, q.Hidden)
	names := make([]string, 0, len(q.Filter))
	for n := range q.Filter {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		fmt.Fprintf(&b, "%q%q", n, q.Filter[n])
	}
	return b.String()
}

// ask gets a partial from the cache or computes it. A segment that cannot be
// read is set aside and counts no more.
func (s *Store) ask(ctx context.Context, q question, t task, sc *scratch) (*partial, error) {
	if t.cache != "" {
		if p := s.cache.get(t.cache); p != nil {
			return p, nil
		}
	}
	b := t.block
	g, sealed := b.(segBlock)
	if t.rollup != noRollup {
		r, err := s.db.rollup(ctx, t.rollup, g.name, g.at, q.Needs)
		if err != nil {
			return nil, err
		}
		if r != nil {
			p := q.fromRollup(r, t.from, t.to)
			if t.cache != "" {
				s.cache.put(t.cache, p)
			}
			return p, nil
		}
	}
	if sealed {
		b = segBlock{g.segment, g.at, sc}
		defer sc.reset()
	}
	var p *partial
	err := s.reading(func() (err error) {
		p, err = q.compute(b, t.from, t.to)
		return err
	})
	if errors.Is(err, errMoved) {
		return &partial{}, nil
	}
	if err == nil && t.cache != "" {
		s.cache.put(t.cache, p)
	}
	return p, err
}

// add merges a partial: those of its cells whose step lies in the range. Where
// a range cuts a step, the partial holds no more of it than the range does.
func (a *answers) add(p *partial, first, to int64) {
	for i, k := range p.keys {
		if k.step < first || k.step*1e6 >= to {
			continue
		}
		into, values := a.named, p.groups[k.group]
		if values == nil {
			into = a.rest
		}
		into.Add(values, k.step, &p.cells[i])
	}
}

// A cache keeps the partials that were asked for last, within a bound of bytes.
type cache struct {
	mu    sync.Mutex
	most  int
	bytes int
	order list.List // of *kept, the last used first
	at    map[string]*list.Element
}

type kept struct {
	key   string
	p     *partial
	bytes int
}

func (c *cache) get(key string) *partial {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.at[key]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*kept).p
}

func (c *cache) put(key string, p *partial) {
	k := &kept{key, p, len(key) + p.size()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at == nil {
		c.at = map[string]*list.Element{}
	}
	if c.at[key] != nil || k.bytes > c.most/8 {
		return
	}
	c.at[key] = c.order.PushFront(k)
	for c.bytes += k.bytes; c.bytes > c.most; {
		last := c.order.Remove(c.order.Back()).(*kept)
		delete(c.at, last.key)
		c.bytes -= last.bytes
	}
}
