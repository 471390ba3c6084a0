package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/store"
)

// A find is a Call that a list may show: where it is, and its place in order.
type find struct {
	started int64
	id      string
	block   block
	row     int32
}

// newer orders finds, the newest first.
func newer(a, b find) int {
	switch {
	case a.started != b.started && a.started > b.started:
		return -1
	case a.started != b.started:
		return 1
	}
	return strings.Compare(b.id, a.id)
}

// List implements store.Store. Its cursor is the id of the last Call given and
// the microsecond it started in.
func (s *Store) List(ctx context.Context, q store.List) (store.Page, error) {
	if err := q.Filter.Check(); err != nil {
		return store.Page{}, err
	}
	limit := q.Limit
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, store.MaxPage)
	from, to := int64(-1)<<62, int64(1)<<62
	if !q.From.IsZero() {
		from = q.From.UnixMicro()
	}
	if !q.To.IsZero() {
		to = q.To.UnixMicro()
	}
	var after *find // the last Call of the page before
	if q.Cursor != "" {
		c, err := parseCursor(q.Cursor)
		if err != nil {
			return store.Page{}, err
		}
		after, to = &c, min(to, c.started+1)
	}
	for tries := 0; ; tries++ {
		finds, err := s.finds(ctx, q, from, to, after, limit+1)
		if err != nil {
			return store.Page{}, err
		}
		page := store.Page{Calls: []*call.Call{}}
		if len(finds) > limit {
			finds = finds[:limit]
			last := finds[limit-1]
			page.Next = fmt.Sprintf("%d.%s", last.started, last.id)
		}
		page.Calls, err = s.read(ctx, finds)
		if errors.Is(err, errMoved) && tries < maxTries {
			s.moved()
			continue
		}
		return page, err
	}
}

func parseCursor(s string) (find, error) {
	var f find
	if _, err := fmt.Sscanf(strings.Replace(s, ".", " ", 1), "%d %s", &f.started, &f.id); err != nil || !call.ValidID(f.id) {
		return f, &store.QueryError{Msg: "the cursor is not one that a page gave"}
	}
	return f, nil
}

// finds are the newest Calls of a list, at most n.
func (s *Store) finds(ctx context.Context, q store.List, from, to int64, after *find, n int) ([]find, error) {
	v := s.look()
	var blocks []block
	for _, t := range v.tails {
		if t.n > 0 {
			blocks = append(blocks, t)
		}
	}
	for _, g := range v.segments {
		for i := range g.Blocks {
			blocks = append(blocks, segBlock{g, i, nil})
		}
	}
	blocks = slices.DeleteFunc(blocks, func(b block) bool { sp := b.span(); return sp.First >= to || sp.Last < from })
	slices.SortStableFunc(blocks, func(a, b block) int {
		if x, y := a.span().Last, b.span().Last; x != y {
			if x > y {
				return -1
			}
			return 1
		}
		return 0
	})
	var best []find
	for _, b := range blocks {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if len(best) == n && b.span().Last < best[n-1].started {
			break
		}
		var found []find
		err := s.reading(func() (err error) {
			found, err = s.search(b, q, from, to, after, n)
			return err
		})
		if errors.Is(err, errMoved) {
			continue
		}
		if err != nil {
			return nil, err
		}
		best = append(best, found...)
		slices.SortFunc(best, newer)
		best = best[:min(n, len(best))]
	}
	return best, nil
}

// search finds the newest Calls of one block.
func (s *Store) search(b block, q store.List, from, to int64, after *find, n int) ([]find, error) {
	rows, err := between(b, from, to)
	if err != nil {
		return nil, err
	}
	if rows, err = filter(b, rows, q.Filter, nil); err != nil || rows.len() == 0 {
		return nil, err
	}
	if q.Text != "" {
		if rows, err = withText(b, rows, strings.ToLower(q.Text)); err != nil || rows.len() == 0 {
			return nil, err
		}
	}
	started, err := b.column("started_at")
	if err != nil {
		return nil, err
	}
	list := rows.each()
	var found []find
	take := func(list []int32, ids func(i int) string) {
		for i, r := range list {
			f := find{started.i64[r], ids(i), b, r}
			if after == nil || newer(*after, f) < 0 {
				found = append(found, f)
			}
		}
	}
	switch b := b.(type) {
	case *tail:
		take(list, func(i int) string { return b.ids[list[i]] })
	case segBlock: // its rows are in order: the newest are the last
		if after != nil { // some may be those of the page before
			k := len(list)
			for k > 0 && started.i64[list[k-1]] == after.started {
				k--
			}
			ids, err := b.segment.column(b.at, "id", list[k:], nil)
			if err != nil {
				return nil, err
			}
			for len(list) > k && ids.dict[ids.idx[len(list)-1-k]] >= after.id {
				list = list[:len(list)-1]
			}
		}
		list = list[max(0, len(list)-n):]
		ids, err := b.segment.column(b.at, "id", list, nil)
		if err != nil {
			return nil, err
		}
		take(list, func(i int) string { return ids.dict[ids.idx[i]] })
	}
	slices.SortFunc(found, newer)
	return found[:min(n, len(found))], nil
}

// withText leaves the rows that hold text, lower-cased, in one of the fields
// that store.HasText names.
func withText(b block, rows selection, text string) (selection, error) {
	hit := make([]bool, b.rows())
	mark := func(v vec) {
		pass, any := make([]bool, len(v.dict)), false
		for i, w := range v.dict {
			pass[i] = w != "" && strings.Contains(strings.ToLower(w), text)
			any = any || pass[i]
		}
		if !any {
			return
		}
		for r, i := range v.idx {
			if i >= 0 && pass[i] {
				hit[r] = true
			}
		}
	}
	names := append([]string{"response_id", "error_message"}, store.TextFields...)
	if sb, ok := b.(segBlock); ok {
		f, err := sb.reader()
		if err != nil {
			return rows, err
		}
		names = append(append(names, "id"), f.tags...)
		for _, name := range f.tags {
			if strings.Contains(strings.ToLower(name[len(tagColumn("")):]), text) {
				v, err := b.column(name)
				if err != nil {
					return rows, err
				}
				for r, i := range v.idx {
					hit[r] = hit[r] || i >= 0
				}
			}
		}
		rest, err := b.column(moreTags)
		if err != nil {
			return rows, err
		}
		says := make([]bool, len(rest.dict))
		for i, t := range rest.dict {
			says[i] = tagsHold(parseTags(t), text)
		}
		for r, i := range rest.idx {
			hit[r] = hit[r] || says[i]
		}
	}
	for _, name := range names {
		v, err := b.column(name)
		if err != nil {
			return rows, err
		}
		mark(v)
	}
	if t, ok := b.(*tail); ok {
		for r := range hit {
			hit[r] = hit[r] || strings.Contains(strings.ToLower(t.ids[r]), text) || tagsHold(t.labels[r], text)
		}
	}
	list := []int32{}
	for i := range rows.len() {
		r := int32(rows.lo + i)
		if rows.list != nil {
			r = rows.list[i]
		}
		if hit[r] {
			list = append(list, r)
		}
	}
	return selection{list: list}, nil
}

func tagsHold(tags map[string]string, text string) bool {
	for k, v := range tags {
		if strings.Contains(strings.ToLower(k), text) || strings.Contains(strings.ToLower(v), text) {
			return true
		}
	}
	return false
}

// errMoved says that a Call is not where it was found: its segment was set
// aside, or the tail was sealed.
var errMoved = errors.New("store: the call is not where it was")

// maxTries is how often a question is put again after errMoved.
const maxTries = 5

// moved waits until what questions see is what the database holds.
func (s *Store) moved() {
	s.moving.RLock()
	defer s.moving.RUnlock()
}

// read gives the Calls of finds, in their order.
func (s *Store) read(ctx context.Context, finds []find) ([]*call.Call, error) {
	calls := make([]*call.Call, len(finds))
	byBlock := map[block][]int{}
	for i, f := range finds {
		byBlock[f.block] = append(byBlock[f.block], i)
	}
	for b, list := range byBlock {
		slices.SortFunc(list, func(x, y int) int { return int(finds[x].row) - int(finds[y].row) })
		rows := make([]int32, len(list))
		for i, k := range list {
			rows[i] = finds[k].row
		}
		var got []*call.Call
		err := s.reading(func() (err error) {
			switch b := b.(type) {
			case *tail:
				got, err = s.fromTail(ctx, b, rows)
				if bad := (*batchError)(nil); errors.As(err, &bad) {
					s.damaged.Store(true)
					s.poke()
				}
			case segBlock:
				got, err = b.calls(b.at, rows, nil)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		for i, k := range list {
			calls[k] = got[i]
		}
	}
	return calls, nil
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, id string) (*call.Call, error) {
	if !call.ValidID(id) {
		return nil, store.ErrNotFound
	}
	for tries := 0; ; tries++ {
		f, err := s.find(id)
		if err != nil {
			return nil, err
		}
		calls, err := s.read(ctx, []find{f})
		if errors.Is(err, errMoved) && tries < maxTries {
			s.moved()
			continue
		}
		if err != nil {
			return nil, err
		}
		return calls[0], nil
	}
}

// find looks for an id in the tail, and then in the segments that may hold it.
func (s *Store) find(id string) (find, error) {
	v := s.look()
	for _, t := range v.tails {
		if i := slices.Index(t.ids, id); i >= 0 {
			return find{block: t, row: int32(i), id: id}, nil
		}
	}
	for _, g := range v.segments {
		var b int
		var r int32
		err := s.reading(func() (err error) {
			b, r, err = g.find(id)
			return err
		})
		if errors.Is(err, errMoved) {
			continue
		}
		if err != nil {
			return find{}, err
		}
		if r >= 0 {
			return find{block: segBlock{g, b, nil}, row: r, id: id}, nil
		}
	}
	return find{}, store.ErrNotFound
}

// blocksOf are the blocks of a segment that may hold an id by their times.
func (s *segment) blocksOf(id string) []int {
	var blocks []int
	ms := idMillis(id)
	for i, b := range s.Blocks {
		if !s.Regular || floorMillis(b.First) <= ms && ms <= floorMillis(b.Last) {
			blocks = append(blocks, i)
		}
	}
	return blocks
}

// find is the block and the row of an id; the row is negative if it is not there.
func (s *segment) find(id string) (int, int32, error) {
	for _, i := range s.blocksOf(id) {
		may, err := s.mayHold(i, id)
		if err != nil {
			return 0, 0, err
		}
		if !may {
			continue
		}
		ids, err := s.column(i, "id", nil, nil)
		if err != nil {
			return 0, 0, err
		}
		if k := int32(slices.Index(ids.dict, id)); k >= 0 {
			if r := slices.Index(ids.idx, k); r >= 0 {
				return i, int32(r), nil
			}
		}
	}
	return 0, -1, nil
}

// hasAny marks which of ids the segment holds.
func (s *segment) hasAny(ids []string, have []bool) error {
	asked := map[int][]int{} // by block: which of ids
	for k, id := range ids {
		if have[k] {
			continue
		}
		for _, i := range s.blocksOf(id) {
			may, err := s.mayHold(i, id)
			if err != nil {
				return err
			}
			if may {
				asked[i] = append(asked[i], k)
			}
		}
	}
	for i, ks := range asked {
		v, err := s.column(i, "id", nil, nil)
		if err != nil {
			return err
		}
		there := make(map[string]bool, len(v.dict))
		for _, id := range v.dict {
			there[id] = true
		}
		for _, k := range ks {
			have[k] = have[k] || there[ids[k]]
		}
	}
	return nil
}

// fromTail reads Calls of the tail from the database.
func (s *Store) fromTail(ctx context.Context, t *tail, rows []int32) ([]*call.Call, error) {
	calls := make([]*call.Call, len(rows))
	var batch []*call.Call
	var have int64 = -1
	for i, r := range rows {
		if t.seq[r] != have {
			var err error
			if batch, err = s.db.batch(ctx, t.seq[r]); err != nil {
				return nil, err
			}
			have = t.seq[r]
		}
		if int(t.at[r]) >= len(batch) || batch[t.at[r]].ID != t.ids[r] {
			return nil, fmt.Errorf("store: batch %d is not as it was", t.seq[r])
		}
		calls[i] = batch[t.at[r]]
	}
	return calls, nil
}

// look is the store as it is now.
func (s *Store) look() view {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := view{segments: s.segments}
	for _, t := range s.tails {
		v.tails = append(v.tails, t.look())
	}
	return v
}

// A view is what a question sees: the tails, and the segments behind them.
type view struct {
	tails    []*tail
	segments []*segment // never changed in place
}

// day is the UTC day of a time in microseconds, in days since 1970.
func day(us int64) int64 {
	const length = int64(24 * time.Hour / time.Microsecond)
	d := us / length
	if us%length < 0 {
		d--
	}
	return d
}
