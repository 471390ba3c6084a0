// Package local is the default store: one folder on this machine.
//
// Calls are committed to SQLite within milliseconds of their end and survive a
// kill at any point: they are the tail. Now and then the tail is sealed into
// immutable Parquet files, the segments, one or more a UTC day, and small
// segments are merged into larger ones. A question reads the columns that it
// needs of the blocks that its range allows, in parallel, and the tail; what a
// block of a segment answered is kept, because it cannot change.
//
//	tail.db              the tail's batches and the manifest
//	calls-DAY-….parquet  the segments
//	bodies-DAY.db        kept bodies, apart: see bodies
//	….quarantine         what could not be read, set aside
//
// Nothing here decides what a question means: package store does.
package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/store"
)

// Options say how much is kept. Zero durations and sizes mean no limit.
type Options struct {
	Log    *slog.Logger
	Calls  time.Duration // how long Calls are kept
	Bodies time.Duration // how long bodies are kept
	Bytes  int64         // of the folder: past it the oldest bodies go, then the oldest Calls

	SealRows int           // a tail of so many Calls is sealed; 0 means 100,000
	SealAge  time.Duration // or one this old; 0 means an hour
	Cache    int           // bytes of partial answers kept in memory; 0 means 64 MiB
	Disk     Disk          // nil means the machine's own
}

// A Store is a folder with Calls in it.
type Store struct {
	o      Options
	dir    string
	lock   *os.File
	db     *db
	bodies *bodies
	cache  cache

	writing sync.Mutex // held while a batch is stored; guards seq
	seq     int64      // of the last batch
	buf     []byte

	importing sync.Mutex // one import at a time: it looks before it adds
	repricing sync.Mutex // held by Reprice

	mu       sync.RWMutex // guards what follows
	tails    []*tail      // the last one grows, those before it are being sealed
	segments []*segment   // by the time of their first Call; replaced, never changed
	troubles map[string]error

	moving sync.RWMutex // held while batches leave the database and what questions see does not know yet

	upkeep   sync.Mutex // one seal, merge or clean-up at a time; guards what follows
	doubtful []*segment // see change
	sealed   bool       // the database may hold batches that are sealed
	still    bool       // nothing is merged: Reprice goes through the segments
	wake     chan struct{}
	stop     chan struct{}
	done     chan struct{}
	closed   sync.Once

	damaged atomic.Bool // a batch of the tail cannot be read: a seal sets it aside
}

// Open opens or makes the store in dir. What cannot be read is set aside,
// named in the log and by Health: what is lost is never the reason to refuse
// what comes. An error that is store.ErrUnavailable may pass.
func Open(dir string, o Options) (*Store, error) {
	if o.SealRows == 0 {
		o.SealRows = 100_000
	}
	if o.SealAge == 0 {
		o.SealAge = time.Hour
	}
	if o.Cache == 0 {
		o.Cache = 64 << 20
	}
	if o.Disk == nil {
		o.Disk = machine{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{o: o, dir: dir, lock: lock, cache: cache{most: o.Cache}, tails: []*tail{newTail()}, troubles: map[string]error{},
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	s.bodies = &bodies{dir: dir, disk: o.Disk, log: o.Log}
	if err := s.recover(); err != nil {
		if s.db != nil {
			s.db.close()
		}
		lock.Close()
		if lacks(err) || passing(o.Disk, filepath.Join(dir, "tail.db"), err) {
			err = fmt.Errorf("%w: %w", store.ErrUnavailable, err)
		}
		return nil, fmt.Errorf("store: %w", err)
	}
	s.sealed = true
	go s.maintain()
	return s, nil
}

// Close closes the store.
func (s *Store) Close() error {
	var err error
	s.closed.Do(func() {
		close(s.stop)
		<-s.done
		s.upkeep.Lock() // a repricing stops where it is
		defer s.upkeep.Unlock()
		err = errors.Join(s.bodies.close(), s.db.close(), s.lock.Close())
	})
	return err
}

var errClosed = errors.New("store: closed")

// Health says what does not work, and what was set aside because it could not
// be read.
func (s *Store) Health() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var errs []error
	for _, what := range slices.Sorted(maps.Keys(s.troubles)) {
		errs = append(errs, fmt.Errorf("%s: %w", what, s.troubles[what]))
	}
	return errors.Join(errs...)
}

// trouble remembers what does not work for Health; nil means that it does again.
func (s *Store) trouble(what string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.troubles, what)
	} else {
		s.troubles[what] = err
	}
}

// troubled is what trouble remembers.
func (s *Store) troubled(what string) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.troubles[what]
}

// Write implements call.Sink.
func (s *Store) Write(ctx context.Context, batch []call.Entry) error {
	calls := make([]*call.Call, len(batch))
	for i, e := range batch {
		calls[i] = e.Call
	}
	if err := s.append(ctx, calls); err != nil {
		return err
	}
	if err := s.bodies.add(batch); err != nil { // a lost body is no lost Call
		s.o.Log.Error("bodies cannot be kept", "err", err)
		s.trouble("bodies", err)
	} else {
		s.trouble("bodies", nil)
	}
	return nil
}

// maxTail bounds the Calls in memory when they cannot be sealed.
const maxTail = 2_000_000

// append stores a batch in the tail.
func (s *Store) append(ctx context.Context, calls []*call.Call) error {
	if len(calls) == 0 {
		return nil
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if n := s.tailRows(); n > maxTail {
		return fmt.Errorf("store: %d calls wait to be sealed, no more are taken", n)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.buf = appendBatch(s.buf[:0], calls)
	// A batch that is on its way is not called back: the driver would say that
	// it failed when it has just been stored. A number that did fail is not used
	// again, for the same reason.
	s.seq++
	err := s.db.append(context.WithoutCancel(ctx), s.seq, s.buf)
	if cap(s.buf) > 4<<20 {
		s.buf = nil
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	s.mu.Lock()
	t := s.tails[len(s.tails)-1]
	t.add(s.seq, calls)
	full := t.n >= s.o.SealRows
	s.mu.Unlock()
	if full {
		s.poke()
	}
	return nil
}

func (s *Store) tailRows() (n int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, t := range s.tails {
		n += t.n
	}
	return n
}

// poke asks for upkeep now.
func (s *Store) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Import implements store.Store.
func (s *Store) Import(ctx context.Context, calls []*call.Call) (int, error) {
	s.importing.Lock()
	defer s.importing.Unlock()
	for s.tailRows() > 2*s.o.SealRows { // sealing sets the pace
		s.poke()
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-s.stop:
			return 0, errClosed
		case <-time.After(5 * time.Millisecond):
		}
		if err := s.troubled("seal"); err != nil { // it would wait as long as that lasts
			return 0, fmt.Errorf("store: the calls before these cannot be sealed: %w", err)
		}
	}
	fresh, err := s.fresh(calls)
	if err != nil {
		return 0, err
	}
	return len(fresh), s.append(ctx, fresh)
}

// fresh leaves out the Calls that are there already, and repetitions. One import
// at a time may ask.
func (s *Store) fresh(calls []*call.Call) ([]*call.Call, error) {
	have := make([]bool, len(calls))
	ids := make([]string, len(calls))
	seen := make(map[string]bool, len(calls))
	for i, c := range calls {
		ids[i] = c.ID
		have[i] = seen[c.ID]
		seen[c.ID] = true
	}
	now := s.look()
	for _, t := range now.tails {
		for i, id := range ids {
			have[i] = have[i] || t.has(id)
		}
	}
	for _, g := range now.segments {
		err := s.reading(func() error { return g.hasAny(ids, have) })
		if err != nil && !errors.Is(err, errMoved) {
			return nil, err
		}
	}
	var fresh []*call.Call
	for i, c := range calls {
		if !have[i] {
			fresh = append(fresh, c)
		}
	}
	return fresh, nil
}

// Body implements store.Store.
func (s *Store) Body(ctx context.Context, id string) (*call.Exchange, error) {
	return s.bodies.get(ctx, id)
}

var _ store.Store = (*Store)(nil)

func segmentPath(dir, name string) string { return filepath.Join(dir, name) }
