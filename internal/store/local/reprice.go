package local

import (
	"context"
	"errors"
	"slices"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/store"
)

// priceColumns are what a price derives from: see store.Repricing.
var priceColumns = names("id", "started_at", "provider", "model", "status", "http_status", "attempts", "usage_source",
	"input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "reasoning_tokens",
	"audio_input_tokens", "audio_output_tokens", "server_tool_calls", "tier", "reported_nano_usd", "other_models", "cost_nano_usd", "price_row")

// costColumns are those that a repricing changes.
var costColumns = names("attempts", "cost_nano_usd", "price_row")

func names(list ...string) map[string]bool {
	m := map[string]bool{}
	for _, n := range list {
		if columnByName[n] == nil {
			panic("there is no column " + n)
		}
		m[n] = true
	}
	return m
}

// A repricing is one run of Reprice.
type repricing struct {
	store.Repricing
	from, to int64        // microseconds
	halt     func() error // says why it must end
	sum      store.Tally
}

// Reprice implements store.Store. The tail is sealed first, as far as it counts,
// so that only segments change, one after the other, each by a new file that
// takes its place as in a merge. Merges wait meanwhile, since a file of Calls
// that were repriced and others would be counted twice; seals do not, and what
// they bring is priced already.
func (s *Store) Reprice(ctx context.Context, in store.Repricing) ([]store.Repriced, error) {
	if err := in.Filter.Check(); err != nil {
		return nil, err
	}
	if !s.repricing.TryLock() {
		return nil, store.ErrBusy
	}
	defer s.repricing.Unlock()
	r := &repricing{Repricing: in, from: int64(-1) << 62, to: int64(1) << 62}
	if !in.From.IsZero() {
		r.from = in.From.UnixMicro()
	}
	if !in.To.IsZero() {
		r.to = in.To.UnixMicro()
	}
	r.halt = func() error {
		select {
		case <-s.stop:
			return errClosed
		default:
			return ctx.Err()
		}
	}
	segments, err := s.beginReprice(ctx, r)
	defer s.endReprice()
	for _, g := range segments {
		if err != nil {
			break
		}
		err = s.repriceNext(r, g)
	}
	return r.sum.List(), err
}

// beginReprice sees to the tails, lets nothing be merged, and gives the segments
// that count.
func (s *Store) beginReprice(ctx context.Context, r *repricing) ([]*segment, error) {
	s.writing.Lock()
	last := s.seq
	s.writing.Unlock()
	s.upkeep.Lock()
	defer s.upkeep.Unlock()
	s.still = true
	for !r.DryRun && s.tailHolds(r.from, r.to, last) {
		if err := r.halt(); err != nil {
			return nil, err
		}
		if err := s.seal(); err != nil {
			return nil, err
		}
	}
	if err := r.halt(); err != nil {
		return nil, err
	}
	v := s.look() // nothing is sealed meanwhile
	if r.DryRun {
		for _, t := range v.tails {
			if err := s.lookAtTail(ctx, r, t); err != nil {
				return nil, err
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(v.segments), func(g *segment) bool {
		sp := g.about.span()
		return sp.First >= r.to || sp.Last < r.from
	}), nil
}

func (s *Store) endReprice() {
	s.upkeep.Lock()
	s.still = false
	s.upkeep.Unlock()
	s.poke()
}

// tailHolds reports whether a tail that was begun by the batch last may hold
// Calls of [from, to).
func (s *Store) tailHolds(from, to, last int64) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.ContainsFunc(s.tails, func(t *tail) bool {
		return t.n > 0 && t.seq[0] <= last && t.first < to && t.last >= from
	})
}

// selects gives the rows of a block that count, ascending.
func (r *repricing) selects(b block) ([]int32, error) {
	rows, err := between(b, r.from, r.to)
	if err != nil || rows.len() == 0 {
		return nil, err
	}
	if rows, err = filter(b, rows, r.Filter, nil); err != nil || rows.len() == 0 {
		return nil, err
	}
	list := rows.each()
	if !r.Unpriced {
		return list, nil
	}
	cost, err := b.column("cost_nano_usd")
	if err != nil || cost.null == nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(i int32) bool { return !cost.null[i] }), nil
}

// price prices a Call and counts it.
func (r *repricing) price(c *call.Call, t *store.Tally) (changed bool) {
	was, unpriced := c.Cost, c.Unpriced
	changed = r.Price(c)
	t.Add(was, unpriced, c, changed)
	return changed
}

// lookAtTail counts what a tail holds. A batch that cannot be read is left to
// the next seal, which sets it aside.
func (s *Store) lookAtTail(ctx context.Context, r *repricing, t *tail) error {
	if t.n == 0 {
		return nil
	}
	rows, err := r.selects(t)
	for len(rows) > 0 && err == nil {
		n := 1
		for n < len(rows) && t.seq[rows[n]] == t.seq[rows[0]] {
			n++
		}
		var calls []*call.Call
		calls, err = s.fromTail(ctx, t, rows[:n])
		if bad := (*batchError)(nil); errors.As(err, &bad) {
			s.damaged.Store(true)
			err = nil
		}
		for _, c := range calls {
			r.price(c, &r.sum)
		}
		rows = rows[n:]
	}
	r.tell()
	return err
}

func (r *repricing) tell() {
	if r.Progress != nil {
		r.Progress(r.sum.Calls())
	}
}

// repriceNext looks at a segment, and makes it anew if a Call of it changes. One
// that is gone meanwhile does not count.
func (s *Store) repriceNext(r *repricing, g *segment) error {
	s.upkeep.Lock()
	defer s.upkeep.Unlock()
	if err := r.halt(); err != nil {
		return err
	}
	s.mu.RLock()
	known := slices.Contains(s.segments, g)
	s.mu.RUnlock()
	if !known {
		return nil
	}
	var t store.Tally
	var changes []bool
	err := s.reading(func() (err error) {
		t, changes, err = r.look(g)
		return err
	})
	if err == nil && !r.DryRun && slices.Contains(changes, true) {
		if err = s.certain(); err != nil {
			return err
		}
		err = s.remake([][]part{r.parts(g, changes)}, []*segment{g})
	}
	if errors.Is(err, errMoved) {
		return nil
	}
	if err != nil {
		return err
	}
	r.sum.Merge(&t)
	r.tell()
	return nil
}

// look counts what a segment holds, and says which of its blocks change.
func (r *repricing) look(g *segment) (t store.Tally, changes []bool, err error) {
	changes = make([]bool, len(g.Blocks))
	for i := range g.Blocks {
		if err := r.halt(); err != nil {
			return t, nil, err
		}
		if err := r.block(g, i, &t, func(int32, *call.Call) { changes[i] = true }); err != nil {
			return t, nil, err
		}
	}
	return t, changes, nil
}

// block prices what counts of a block. changed is told of each Call that changes.
func (r *repricing) block(g *segment, at int, t *store.Tally, changed func(row int32, c *call.Call)) error {
	if sp := g.Blocks[at]; sp.First >= r.to || sp.Last < r.from {
		return nil
	}
	rows, err := r.selects(segBlock{g, at, nil})
	if err != nil || len(rows) == 0 {
		return err
	}
	ask := rows
	if len(rows) == g.Blocks[at].Rows {
		ask = nil // whole columns are read faster
	}
	calls, err := g.calls(at, ask, priceColumns)
	if err != nil {
		return err
	}
	for i, c := range calls {
		if r.price(c, t) {
			changed(rows[i], c)
		}
	}
	return nil
}

// parts are the blocks of a segment as they will be.
func (r *repricing) parts(g *segment, changes []bool) []part {
	parts := make([]part, len(g.Blocks))
	for i := range g.Blocks {
		parts[i] = &repricedPart{r: r, s: g, block: i, changes: changes[i]}
	}
	return parts
}

// A repricedPart is a block on its way into the file that takes the place of its
// segment: all that it was, with other costs. What changes is asked again rather
// than kept from the first look: a segment has up to maxRows.
type repricedPart struct {
	r       *repricing
	s       *segment
	block   int
	changes bool
	calls   map[int32]*call.Call // those that changed, by row; nil before they were asked
}

func (p *repricedPart) rows() int { return p.s.Blocks[p.block].Rows }
func (p *repricedPart) done()     { p.calls = nil }

// tags names those that have a column and not the rest: that stays in moreTags
// as it is.
func (p *repricedPart) tags() (map[string]int, error) {
	f, err := p.s.reader()
	if err != nil {
		return nil, err
	}
	n := map[string]int{}
	for _, name := range f.tags {
		n[name[len(tagColumn("")):]] = p.rows()
	}
	return n, nil
}

func (p *repricedPart) column(name string, _ map[string]bool) (vec, error) {
	if err := p.r.halt(); err != nil {
		return vec{}, err
	}
	v, err := p.s.column(p.block, name, nil, nil)
	if err != nil || !p.changes || !costColumns[name] {
		return v, err
	}
	if p.calls == nil {
		p.calls = map[int32]*call.Call{}
		var again store.Tally // it is counted
		if err := p.r.block(p.s, p.block, &again, func(row int32, c *call.Call) { p.calls[row] = c }); err != nil {
			return vec{}, err
		}
	}
	return v.with(columnByName[name], p.calls), nil
}

// with is v with what some rows' Calls say of its column.
func (v vec) with(col *column, calls map[int32]*call.Call) vec {
	if col.str == nil {
		n := len(v.i64)
		out := vec{i64: slices.Clone(v.i64), null: make([]bool, n)}
		copy(out.null, v.null)
		for row, c := range calls {
			out.i64[row], out.null[row] = 0, col.null(c)
			if !out.null[row] {
				out.i64[row] = col.num(c)
			}
		}
		return out
	}
	out := vec{idx: slices.Clone(v.idx), dict: slices.Clone(v.dict)}
	at := map[string]int32{}
	for row, c := range calls {
		s := col.str(c)
		i, ok := at[s]
		if !ok {
			i = int32(len(out.dict))
			at[s] = i
			out.dict = append(out.dict, s)
		}
		out.idx[row] = i
	}
	return out
}
