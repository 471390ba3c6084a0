// Package local is the default store: one folder on this machine. Calls are
// committed to SQLite within milliseconds of their end and survive a kill at
// any point.
//
// It is the tail of the design; sealed column segments behind it come next,
// and until then a query reads every Call of its range.
package local

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/store"
)

// Options say how much is kept.
type Options struct {
	Log    *slog.Logger
	Retain time.Duration // how long Calls are kept; 0 means for ever
}

// A Store is a folder with Calls in it.
type Store struct {
	db     *sql.DB
	o      Options
	lock   *os.File
	stop   chan struct{}
	done   chan struct{}
	closed sync.Once
}

const schema = `
CREATE TABLE IF NOT EXISTS calls (
	id         TEXT PRIMARY KEY,
	started_us INTEGER NOT NULL, -- microseconds since 1970
	call       BLOB NOT NULL     -- the public JSON form
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS calls_started ON calls (started_us, id);
CREATE TABLE IF NOT EXISTS bodies (
	id       TEXT PRIMARY KEY,
	made_us  INTEGER NOT NULL,
	exchange BLOB NOT NULL
) WITHOUT ROWID;`

// Open opens or makes the store in dir. A database that cannot be read is moved
// aside, named in the log, and a new one begun: what is lost is never the
// reason to refuse what comes.
func Open(dir string, o Options) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "calls.db")
	db, err := openDB(path)
	if err != nil {
		aside := fmt.Sprintf("%s.%d.quarantine", path, time.Now().Unix())
		o.Log.Error("the store cannot be read and is moved aside", "file", path, "to", aside, "err", err)
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if rerr := os.Rename(path+suffix, aside+suffix); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
				lock.Close()
				return nil, fmt.Errorf("store: %w", rerr)
			}
		}
		if db, err = openDB(path); err != nil {
			lock.Close()
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	s := &Store{db: db, o: o, lock: lock, stop: make(chan struct{}), done: make(chan struct{})}
	go s.retention()
	return s, nil
}

func openDB(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	var check string
	if err := db.QueryRow("PRAGMA quick_check(1)").Scan(&check); err != nil || check != "ok" {
		db.Close()
		return nil, errors.Join(err, errors.New("quick_check: "+check))
	}
	if _, err := db.Exec(schema); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// Close closes the store.
func (s *Store) Close() error {
	var err error
	s.closed.Do(func() {
		close(s.stop)
		<-s.done
		err = errors.Join(s.db.Close(), s.lock.Close())
	})
	return err
}

// Health says what does not work.
func (s *Store) Health() error { return s.db.Ping() }

// Write implements call.Sink.
func (s *Store) Write(ctx context.Context, batch []call.Entry) error {
	calls := make([]*call.Call, len(batch))
	for i, e := range batch {
		calls[i] = e.Call
	}
	_, err := s.insert(ctx, calls, batch)
	return err
}

// Import implements store.Store.
func (s *Store) Import(ctx context.Context, calls []*call.Call) (int, error) {
	return s.insert(ctx, calls, nil)
}

func (s *Store) insert(ctx context.Context, calls []*call.Call, entries []call.Entry) (added int, err error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("store: begin: %w", err)
	}
	defer tx.Rollback() // after a commit it does nothing
	ins, err := tx.PrepareContext(ctx, "INSERT INTO calls (id, started_us, call) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING")
	if err != nil {
		return 0, fmt.Errorf("store: insert: %w", err)
	}
	defer ins.Close()
	for _, c := range calls {
		text, err := json.Marshal(c)
		if err != nil {
			return 0, fmt.Errorf("store: call %s: %w", c.ID, err)
		}
		res, err := ins.ExecContext(ctx, c.ID, c.StartedAt.UnixMicro(), text)
		if err != nil {
			return 0, fmt.Errorf("store: insert: %w", err)
		}
		n, _ := res.RowsAffected() // SQLite always knows
		added += int(n)
	}
	for _, e := range entries {
		if e.Exchange == nil {
			continue
		}
		text, err := json.Marshal(e.Exchange)
		if err != nil {
			return 0, fmt.Errorf("store: body %s: %w", e.ID, err)
		}
		if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO bodies (id, made_us, exchange) VALUES (?, ?, ?)", e.ID, e.StartedAt.UnixMicro(), text); err != nil {
			return 0, fmt.Errorf("store: body: %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return 0, fmt.Errorf("store: commit: %w", err)
	}
	return added, nil
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, id string) (*call.Call, error) {
	var text []byte
	if err := one(s.db.QueryRowContext(ctx, "SELECT call FROM calls WHERE id = ?", id).Scan(&text)); err != nil {
		return nil, err
	}
	c := new(call.Call)
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("store: call %s: %w", id, err)
	}
	return c, nil
}

// Body implements store.Store.
func (s *Store) Body(ctx context.Context, id string) (*call.Exchange, error) {
	var text []byte
	if err := one(s.db.QueryRowContext(ctx, "SELECT exchange FROM bodies WHERE id = ?", id).Scan(&text)); err != nil {
		return nil, err
	}
	x := new(call.Exchange)
	if err := json.Unmarshal(text, x); err != nil {
		return nil, fmt.Errorf("store: body %s: %w", id, err)
	}
	return x, nil
}

func one(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return store.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// List implements store.Store. Its cursor is the id of the last Call given and
// the microsecond it started in.
func (s *Store) List(ctx context.Context, q store.List) (store.Page, error) {
	keep, err := q.Filter.Compile(true)
	if err != nil {
		return store.Page{}, err
	}
	limit := q.Limit
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, store.MaxPage)
	from, to := bounds(q.From, q.To)
	before, beforeID := to, ""
	if q.Cursor != "" {
		if before, beforeID, err = parseCursor(q.Cursor); err != nil {
			return store.Page{}, err
		}
	}
	text := strings.ToLower(q.Text)
	page := store.Page{Calls: []*call.Call{}}
	err = s.scan(ctx, func(c *call.Call) bool {
		if !keep(c) || text != "" && !store.HasText(c, text) {
			return true
		}
		if len(page.Calls) == limit {
			last := page.Calls[limit-1]
			page.Next = fmt.Sprintf("%d.%s", last.StartedAt.UnixMicro(), last.ID)
			return false
		}
		page.Calls = append(page.Calls, c)
		return true
	}, "WHERE started_us >= ? AND (started_us, id) < (?, ?) ORDER BY started_us DESC, id DESC", from, before, beforeID)
	return page, err
}

func bounds(from, to time.Time) (int64, int64) {
	a, b := int64(0), int64(1)<<62
	if !from.IsZero() {
		a = from.UnixMicro()
	}
	if !to.IsZero() {
		b = to.UnixMicro()
	}
	return a, b
}

func parseCursor(s string) (int64, string, error) {
	var us int64
	var id string
	if _, err := fmt.Sscanf(strings.Replace(s, ".", " ", 1), "%d %s", &us, &id); err != nil || !call.ValidID(id) {
		return 0, "", &store.QueryError{Msg: "the cursor is not one that a page gave"}
	}
	return us, id, nil
}

// Query implements store.Store.
func (s *Store) Query(ctx context.Context, q store.Query) (*store.Result, error) {
	a, err := store.NewAggregation(q)
	if err != nil {
		return nil, err
	}
	if err := s.scan(ctx, func(c *call.Call) bool { a.Add(c); return true },
		"WHERE started_us >= ? AND started_us < ?", q.From.UnixMicro(), q.To.UnixMicro()); err != nil {
		return nil, err
	}
	return a.Result(), nil
}

// scan reads Calls until each says no.
func (s *Store) scan(ctx context.Context, each func(*call.Call) bool, where string, args ...any) error {
	rows, err := s.db.QueryContext(ctx, "SELECT call FROM calls "+where, args...)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var text sql.RawBytes
		if err := rows.Scan(&text); err != nil {
			return fmt.Errorf("store: %w", err)
		}
		c := new(call.Call)
		if err := json.Unmarshal(text, c); err != nil {
			return fmt.Errorf("store: a call: %w", err)
		}
		if !each(c) {
			return nil
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

const sweepEvery = 10 * time.Minute

// retention deletes what is too old until the store is closed.
func (s *Store) retention() {
	defer close(s.done)
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		if s.o.Retain > 0 {
			if _, err := s.db.Exec("DELETE FROM calls WHERE started_us < ?", time.Now().Add(-s.o.Retain).UnixMicro()); err != nil {
				s.o.Log.Error("old calls cannot be deleted", "err", err)
			}
		}
		select {
		case <-t.C:
		case <-s.stop:
			return
		}
	}
}
