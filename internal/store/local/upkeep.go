package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/sheepgate/sheepgate/internal/call"
)

const (
	lookEvery  = 5 * time.Second
	sweepEvery = 10 * time.Minute
	quietAfter = 5 * time.Minute // a day of which nothing new came for so long is merged whole
	mergeAt    = 8               // segments of a size that are merged while their day still grows
)

// Files that are set aside.
const (
	quarantined = ".quarantine" // could not be read
	orphaned    = ".orphan"     // not in the manifest: left by a kill, or put there by somebody
	keepAside   = 7 * 24 * time.Hour
)

// maintain seals, merges and sweeps until the store is closed.
func (s *Store) maintain() {
	defer close(s.done)
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	var swept time.Time
	for {
		s.upkeep.Lock()
		wake := s.wake
		if !s.tidy() {
			wake = nil // what failed just now fails again: it has time until the next look
		}
		if time.Since(swept) > sweepEvery {
			swept = time.Now()
			s.note("sweep", s.sweep(time.Now()))
		}
		s.upkeep.Unlock()
		select {
		case <-wake:
		case <-t.C:
		case <-s.stop:
			return
		}
	}
}

// tidy seals and merges what is due. ok is false if that failed.
func (s *Store) tidy() (ok bool) {
	s.clear()
	for s.sealDue(time.Now()) {
		err := s.seal()
		s.note("seal", err)
		if err != nil {
			return false
		}
		s.clear()
	}
	s.trouble("seal", nil) // somebody else may have sealed what could not be
	for {
		select {
		case <-s.stop:
			return true
		default:
		}
		pick := s.mergeDue(time.Now())
		if len(pick) == 0 {
			s.trouble("merge", nil)
			return true
		}
		if s.sealDue(time.Now()) {
			s.poke()
			return true
		}
		err := s.merge(pick)
		s.note("merge", err)
		if err != nil {
			return false
		}
	}
}

// note logs what failed, and remembers it for Health until it succeeds.
func (s *Store) note(what string, err error) {
	if err != nil {
		s.o.Log.Error("the store's upkeep failed", "step", what, "err", err)
	}
	s.trouble(what, err)
}

// Settle seals the tail and merges what is left in small pieces, now. A store
// settles by itself; this is for who wants to see it settled.
func (s *Store) Settle(ctx context.Context) error {
	s.upkeep.Lock()
	defer s.upkeep.Unlock()
	for s.tailRows() > 0 {
		if err := cmp.Or(ctx.Err(), s.seal()); err != nil {
			return err
		}
	}
	s.trouble("seal", nil)
	if err := s.forget(); err != nil {
		return err
	}
	for {
		pick := s.mergeDue(time.Now().Add(2 * quietAfter))
		if len(pick) == 0 {
			s.trouble("merge", nil)
			return s.db.shrink()
		}
		if err := cmp.Or(ctx.Err(), s.merge(pick)); err != nil {
			return err
		}
	}
}

func (s *Store) sealDue(now time.Time) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.tails[0]
	return len(s.tails) > 1 || s.damaged.Load() && t.n > 0 || t.n >= s.o.SealRows || t.n > 0 && now.Sub(t.begun) >= s.o.SealAge
}

// seal makes segments of the oldest tail: write the files, then let the
// manifest know them and the tail begin after its batches in one transaction.
func (s *Store) seal() error {
	s.writing.Lock() // no batch may be on its way into the tail that ends here
	s.mu.Lock()
	if len(s.tails) == 1 {
		if s.tails[0].n == 0 {
			s.mu.Unlock()
			s.writing.Unlock()
			return nil
		}
		s.tails = append(s.tails[:1:1], newTail())
	}
	t := s.tails[0]
	s.mu.Unlock()
	s.writing.Unlock()

	if err := s.certain(); err != nil {
		return err
	}
	s.damaged.Store(false)
	var made []*segment
	for _, parts := range s.parts(t) {
		g, err := writeSegment(s.o.Disk, s.dir, parts, nil)
		if bad := (*batchError)(nil); errors.As(err, &bad) || errors.Is(err, errMoved) { // or one was set aside, and then the disk failed
			s.discard(made)
			return s.dropBroken() // the rest is sealed the next time
		}
		if err != nil {
			s.discard(made)
			return err
		}
		made = append(made, g)
	}
	if err := syncFolder(s.o.Disk, s.dir); err != nil {
		s.discard(made)
		return err
	}
	if err := s.move(made, t.seq[t.n-1]); err != nil {
		return err
	}
	s.sealed = true
	return nil
}

// clear deletes what is sealed, of which there may be more from the start. That
// it cannot be is no reason not to seal.
func (s *Store) clear() { s.note("delete what is sealed", s.forget()) }

// forget deletes what is sealed from the database.
func (s *Store) forget() error {
	if !s.sealed {
		return nil
	}
	deleted, err := s.db.forget()
	if err != nil {
		return err
	}
	if deleted && s.tailRows() <= s.o.SealRows/2 { // otherwise the space is wanted again at once: an import
		if err := s.db.shrink(); err != nil {
			return err
		}
	}
	s.sealed = false
	return nil
}

// move lets segments take the place of the oldest tail, whose last batch is sealed.
func (s *Store) move(made []*segment, sealed int64) error {
	if err := s.change(made, nil, sealed); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments = inOrder(append(slices.Clone(s.segments), made...))
	s.tails = slices.Clone(s.tails[1:])
	return nil
}

func inOrder(list []*segment) []*segment {
	slices.SortFunc(list, func(a, b *segment) int {
		return cmp.Or(cmp.Compare(a.Blocks[0].First, b.Blocks[0].First), strings.Compare(a.name, b.name))
	})
	return list
}

// parts are the runs of a tail's rows, a list a file.
func (s *Store) parts(t *tail) [][]part {
	started := t.vecs[1].i64
	if columns[1].name != "started_at" {
		panic("started_at is not where it was")
	}
	order := make([]int32, t.n)
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(started[a], started[b]), strings.Compare(t.ids[a], t.ids[b]))
	})
	b := &batches{s: s, left: map[int64]int{}, calls: map[int64][]*call.Call{}}
	var files [][]part
	for len(order) > 0 {
		n := 1
		for n < min(len(order), maxRows) && day(started[order[n]]) == day(started[order[0]]) {
			n++
		}
		var parts []part
		for from := 0; from < n; from += blockRows {
			rows := order[from:min(n, from+blockRows)]
			p := &callPart{n: len(rows), labels: make([]map[string]string, len(rows))}
			for i, r := range rows {
				p.labels[i] = t.labels[r]
			}
			p.load = func() ([]*call.Call, error) { return b.take(t, rows) }
			b.need(t, rows)
			parts = append(parts, p)
		}
		files = append(files, parts)
		order = order[n:]
	}
	return files
}

// batches reads the tail's batches from the database, each once, and keeps one
// as long as a later part needs it.
type batches struct {
	s     *Store
	left  map[int64]int // by seq: how many parts will come for it
	calls map[int64][]*call.Call
}

func (b *batches) need(t *tail, rows []int32) {
	for seq := range seqs(t, rows) {
		b.left[seq]++
	}
}

func seqs(t *tail, rows []int32) map[int64]bool {
	m := map[int64]bool{}
	for _, r := range rows {
		m[t.seq[r]] = true
	}
	return m
}

func (b *batches) take(t *tail, rows []int32) ([]*call.Call, error) {
	out := make([]*call.Call, len(rows))
	for i, r := range rows {
		seq := t.seq[r]
		calls, ok := b.calls[seq]
		if !ok {
			var err error
			if calls, err = b.s.db.batch(context.Background(), seq); err != nil {
				return nil, err
			}
			b.calls[seq] = calls
		}
		if int(t.at[r]) >= len(calls) || calls[t.at[r]].ID != t.ids[r] {
			return nil, fmt.Errorf("batch %d is not as it was", seq)
		}
		out[i] = calls[t.at[r]]
	}
	for seq := range seqs(t, rows) {
		if b.left[seq]--; b.left[seq] == 0 {
			delete(b.calls, seq)
		}
	}
	return out, nil
}

// made is when a segment's file was written, by its name.
func (s *segment) made() time.Time {
	name := strings.TrimSuffix(s.name, suffix)
	id, err := ulid.ParseStrict(name[max(0, len(name)-ulid.EncodedSize):])
	if err != nil {
		return time.Time{}
	}
	return ulid.Time(id.Time())
}

// mergeDue picks segments of one day to be merged: eight of about a size, or,
// once the day is quiet, all that fit into one file.
func (s *Store) mergeDue(now time.Time) []*segment {
	if s.still {
		return nil
	}
	s.mu.RLock()
	segments := s.segments
	s.mu.RUnlock()
	byDay := map[int64][]*segment{}
	var days []int64
	for _, g := range segments {
		if g.Rows > maxRows*3/4 {
			continue
		}
		d := day(g.Blocks[0].First)
		if byDay[d] == nil {
			days = append(days, d)
		}
		byDay[d] = append(byDay[d], g)
	}
	for _, d := range days {
		list := byDay[d]
		if len(list) < 2 {
			continue
		}
		slices.SortFunc(list, func(a, b *segment) int { return cmp.Or(cmp.Compare(a.Rows, b.Rows), strings.Compare(a.name, b.name)) })
		newest := slices.MaxFunc(list, func(a, b *segment) int { return a.made().Compare(b.made()) }).made()
		over := day(now.UnixMicro()) > d
		var pick []*segment
		if over && now.Sub(newest) > quietAfter {
			pick = fit(list)
		} else {
			for len(list) > 0 { // by size: each class is eight times the one before
				n := 1
				for n < len(list) && class(list[n].Rows) == class(list[0].Rows) {
					n++
				}
				if n >= mergeAt {
					pick = fit(list[:n])
					break
				}
				list = list[n:]
			}
		}
		if len(pick) > 1 {
			return pick
		}
	}
	return nil
}

func class(rows int) int { return bits.Len(uint(rows)) / 3 }

// fit takes the smallest segments that make one file.
func fit(list []*segment) []*segment {
	rows := 0
	for i, g := range list {
		if rows += g.Rows; rows > maxRows {
			return list[:i]
		}
	}
	return list
}

// merge makes one file of several.
func (s *Store) merge(old []*segment) error {
	if err := s.certain(); err != nil {
		return err
	}
	files, err := merged(old)
	if err != nil {
		err = s.aside(err)
	} else {
		err = s.remake(files, old)
	}
	if errors.Is(err, errMoved) {
		return nil // the rest is merged the next time
	}
	return err
}

// aside sets a segment aside that err says is damaged: then it is errMoved.
func (s *Store) aside(err error) error {
	if d := (*damage)(nil); errors.As(err, &d) && s.quarantine(d.s, d.err) {
		return errMoved
	}
	return err
}

// remake puts new files in the place of old ones: write them, let the manifest
// know them and forget the old in one transaction, and only then delete those.
// There may be no doubt when it is called: see certain. errMoved says that an
// old one could not be read and is set aside: nothing has changed.
func (s *Store) remake(files [][]part, old []*segment) error {
	names := make([]string, len(old))
	for i, g := range old {
		names[i] = g.name
	}
	var made []*segment
	var err error
	for _, parts := range files {
		var g *segment
		if g, err = writeSegment(s.o.Disk, s.dir, parts, names); err != nil {
			break
		}
		made = append(made, g)
	}
	if err == nil {
		err = syncFolder(s.o.Disk, s.dir)
	}
	if err != nil {
		s.discard(made)
		return s.aside(err)
	}
	if err := s.change(made, old, 0); err != nil {
		return err
	}
	s.replace(made, old)
	for _, g := range old {
		s.o.Disk.Remove(g.path) // who reads it still has it open; if it stays it is an orphan
	}
	return nil
}

// change makes a step of the manifest happen. If the disk fails at its very end
// nobody knows whether a start after a kill would find that it had: until that
// is certain the new files must stay.
func (s *Store) change(made, removed []*segment, sealed int64) error {
	err := s.db.change(made, removed, sealed)
	if err != nil {
		s.doubtful = append(s.doubtful, made...)
	}
	return err
}

// certain ends all doubt: another commit takes the place in the log of the one
// that failed.
func (s *Store) certain() error {
	if len(s.doubtful) == 0 {
		return nil
	}
	if err := s.db.touch(); err != nil {
		return err
	}
	s.discard(s.doubtful)
	s.doubtful = nil
	return nil
}

// discard removes files that the manifest does not know. One that stays is an
// orphan.
func (s *Store) discard(made []*segment) {
	for _, g := range made {
		_ = s.o.Disk.Remove(g.path)
	}
}

// replace swaps segments in what questions see.
func (s *Store) replace(made, old []*segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Clone(s.segments)
	list = slices.DeleteFunc(list, func(g *segment) bool { return slices.Contains(old, g) })
	s.segments = inOrder(append(list, made...))
}

// reading does what reads a segment. One that cannot be read is set aside: that
// is errMoved. If only the disk stumbled, it is done once more.
func (s *Store) reading(do func() error) error {
	err := do()
	d := (*damage)(nil)
	if !errors.As(err, &d) {
		return err
	}
	if s.quarantine(d.s, d.err) {
		return errMoved
	}
	if err = do(); errors.As(err, &d) {
		return d.err
	}
	return err
}

// verify reads all of a segment that could not be read a moment ago.
func (s *segment) verify() error {
	fresh := &segment{disk: s.disk, name: s.name, path: s.path, bytes: s.bytes, about: s.about}
	f, err := fresh.reader()
	if err != nil {
		return err
	}
	for name := range f.columns {
		for block := range s.Blocks {
			if _, err := fresh.column(block, name, nil, nil); err != nil {
				return err
			}
		}
	}
	s.open.Lock()
	s.file = f
	s.open.Unlock()
	return nil
}

// quarantine sets a segment aside that cannot be read: the rest counts on. It
// reports false if it can be read after all, or if that cannot be told.
func (s *Store) quarantine(g *segment, why error) bool {
	s.mu.RLock()
	known := slices.Contains(s.segments, g)
	s.mu.RUnlock()
	if !known {
		return true // merged away, or set aside already
	}
	if err := g.verify(); err == nil || lacks(err) {
		s.o.Log.Warn("a segment could not be read for a moment, and stays", "file", g.name, "why", why)
		return false
	}
	s.replace(nil, []*segment{g})
	err := cmp.Or(s.o.Disk.Rename(g.path, g.path+quarantined), s.db.change(nil, []*segment{g}, 0))
	s.o.Log.Error("a segment cannot be read and is set aside", "file", g.name, "calls", g.Rows, "why", why, "err", err)
	s.trouble("set aside: "+g.name+quarantined, why)
	return true
}

// sweep deletes what is too old or too much.
func (s *Store) sweep(now time.Time) error {
	if s.o.Calls > 0 {
		oldest := now.Add(-s.o.Calls).UnixMicro()
		if err := s.expire(func(g *segment) bool { return g.about.span().Last < oldest }); err != nil {
			return err
		}
	}
	if s.o.Bodies > 0 {
		if err := s.bodies.expire(now.Add(-s.o.Bodies)); err != nil {
			return err
		}
	}
	if err := s.sweepAside(now); err != nil {
		return err
	}
	for s.o.Bytes > 0 {
		used, aside, err := folderSize(s.o.Disk, s.dir)
		if err != nil || used <= s.o.Bytes {
			return err
		}
		if aside >= s.o.Bytes { // all Calls would go, and make no room
			return fmt.Errorf("retention.disk is used up by %d bytes of files that were set aside: nothing is deleted for it, repair or delete them", aside)
		}
		if gone, err := s.bodies.dropOldest(now, s.o.Bytes/2); err != nil || gone {
			if err != nil {
				return err
			}
			continue
		}
		s.mu.RLock()
		list := s.segments
		s.mu.RUnlock()
		if len(list) == 0 {
			return nil
		}
		s.o.Log.Info("the oldest calls are deleted: retention.disk is reached", "file", list[0].name, "calls", list[0].Rows)
		if err := s.expire(func(g *segment) bool { return g == list[0] }); err != nil {
			return err
		}
	}
	return nil
}

// expire deletes the segments that are due.
func (s *Store) expire(due func(*segment) bool) error {
	s.mu.RLock()
	var old []*segment
	for _, g := range s.segments {
		if due(g) {
			old = append(old, g)
		}
	}
	s.mu.RUnlock()
	if len(old) == 0 {
		return nil
	}
	if err := s.db.change(nil, old, 0); err != nil {
		return err
	}
	s.replace(nil, old)
	for _, g := range old {
		s.o.Disk.Remove(g.path)
	}
	return nil
}

// sweepAside deletes orphans that nobody came for. What was quarantined stays:
// somebody may want to repair it.
func (s *Store) sweepAside(now time.Time) error {
	list, err := s.o.Disk.ReadDir(s.dir)
	for _, e := range list {
		if !strings.HasSuffix(e.Name(), orphaned) {
			continue
		}
		if st, serr := e.Info(); serr == nil && now.Sub(st.ModTime()) > keepAside {
			err = errors.Join(err, s.o.Disk.Remove(filepath.Join(s.dir, e.Name())))
		}
	}
	return err
}

// folderSize is the bytes of the files in a folder, and of those among them that
// were set aside.
func folderSize(d Disk, dir string) (all, aside int64, err error) {
	list, err := d.ReadDir(dir)
	if err != nil {
		return 0, 0, err
	}
	for _, e := range list {
		st, err := e.Info()
		if err != nil {
			continue // gone
		}
		all += st.Size()
		if strings.Contains(e.Name(), quarantined) {
			aside += st.Size()
		}
	}
	return all, aside, nil
}
