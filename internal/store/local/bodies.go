package local

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/store"
)

// bodies keeps requests and replies apart from the Calls: one SQLite file a
// day, compressed, so that no list or chart ever reads them and a day is
// deleted with its file. The day is that of the Call's id.
type bodies struct {
	dir  string
	disk Disk
	log  *slog.Logger

	mu   sync.Mutex // guards what follows
	open map[string]*bodyFile
}

// A bodyFile is a day's database.
type bodyFile struct {
	*sql.DB         // one connection
	side    *sql.DB // another, for the log
	keeping *log
}

// Close closes it.
func (f *bodyFile) Close() error {
	f.keeping.close()
	return errors.Join(f.DB.Close(), f.side.Close())
}

const bodySchema = `CREATE TABLE IF NOT EXISTS bodies (
	id       TEXT PRIMARY KEY,
	request  BLOB NOT NULL, -- zstd
	response BLOB NOT NULL, -- zstd
	cut      INTEGER NOT NULL -- 1: the request is not complete, 2: the reply
) WITHOUT ROWID`

var (
	zip, _   = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	unzip, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(4*call.MaxExchange))
)

const bodyPrefix = "bodies-"

// dayFile is the file of an id's day.
func dayFile(id string) string {
	return bodyPrefix + time.UnixMilli(idMillis(id)).UTC().Format("2006-01-02") + ".db"
}

// file opens a day's database; nil if it is not there and not to be made.
func (b *bodies) file(name string, make bool) (*bodyFile, error) {
	if db := b.open[name]; db != nil {
		return db, nil
	}
	path := filepath.Join(b.dir, name)
	if _, err := b.disk.Stat(path); !make && errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var db *bodyFile
	err := again(func() (err error) {
		db, err = b.openFile(path)
		return err
	})
	if err != nil && passing(b.disk, path, err) {
		return nil, err
	}
	if err != nil {
		aside, rerr := setDatabaseAside(b.disk, path)
		b.log.Error("a database cannot be read and is set aside", "file", name, "as", aside, "why", err, "err", rerr)
		if rerr != nil {
			return nil, rerr
		}
		if db, err = b.openFile(path); err != nil {
			return nil, err
		}
	}
	if b.open == nil {
		b.open = map[string]*bodyFile{}
	}
	for old := range b.open { // yesterday's late bodies and today's: two are enough
		if len(b.open) >= 2 {
			b.open[old].Close()
			delete(b.open, old)
		}
	}
	b.open[name] = db
	return db, nil
}

func (b *bodies) openFile(path string) (*bodyFile, error) {
	open := func() (*sql.DB, error) {
		db, err := sql.Open("sqlite", "file:"+path+"?"+from(b.disk)+"_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&"+smallCache+"&"+noCheckpoint+"&_pragma=synchronous(NORMAL)")
		if err == nil {
			db.SetMaxOpenConns(1)
		}
		return db, err
	}
	f := &bodyFile{}
	var err error
	if f.DB, err = open(); err != nil {
		return nil, err
	}
	if f.side, err = open(); err == nil {
		_, err = f.DB.Exec(bodySchema)
	}
	if err != nil {
		f.DB.Close()
		if f.side != nil {
			f.side.Close()
		}
		return nil, err
	}
	f.keeping = keepLog(f.side, f.DB)
	return f, nil
}

// add keeps the Exchanges of a batch.
func (b *bodies) add(batch []call.Entry) error {
	byFile := map[string][]call.Entry{}
	for _, e := range batch {
		if e.Exchange != nil {
			f := dayFile(e.ID)
			byFile[f] = append(byFile[f], e)
		}
	}
	if len(byFile) == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, list := range byFile {
		if err := b.insert(name, list); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (b *bodies) insert(name string, list []call.Entry) error {
	db, err := b.file(name, true)
	if err != nil {
		return err
	}
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() // after a commit it does nothing
	size := 0
	for _, e := range list {
		cut := 0
		if e.Exchange.RequestCut {
			cut |= 1
		}
		if e.Exchange.ReplyCut {
			cut |= 2
		}
		request, response := zip.EncodeAll(e.Exchange.Request, nil), zip.EncodeAll(e.Exchange.Response, nil)
		if _, err := tx.Exec("INSERT OR REPLACE INTO bodies (id, request, response, cut) VALUES (?, ?, ?, ?)", e.ID, request, response, cut); err != nil {
			return err
		}
		size += len(request) + len(response) + pageSize
	}
	defer db.keeping.wrote(size)
	return tx.Commit()
}

// get is the Exchange of a Call, or store.ErrNotFound.
func (b *bodies) get(ctx context.Context, id string) (*call.Exchange, error) {
	if !call.ValidID(id) {
		return nil, store.ErrNotFound
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	db, err := b.file(dayFile(id), false)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if db == nil {
		return nil, store.ErrNotFound
	}
	var request, response []byte
	var cut int
	err = db.QueryRowContext(ctx, "SELECT request, response, cut FROM bodies WHERE id = ?", id).Scan(&request, &response, &cut)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, store.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("store: body %s: %w", id, err)
	}
	x := &call.Exchange{RequestCut: cut&1 != 0, ReplyCut: cut&2 != 0}
	var err1, err2 error
	x.Request, err1 = unzip.DecodeAll(request, nil)
	x.Response, err2 = unzip.DecodeAll(response, nil)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("store: body %s: %w", id, err)
	}
	return x, nil
}

// days are the files there are, the oldest first.
func (b *bodies) days() ([]string, error) {
	all, err := b.disk.ReadDir(b.dir) // sorted
	var list []string
	for _, e := range all {
		if name := e.Name(); strings.HasPrefix(name, bodyPrefix) && strings.HasSuffix(name, ".db") {
			list = append(list, name)
		}
	}
	return list, err
}

// expire deletes the days that ended before t.
func (b *bodies) expire(t time.Time) error {
	list, err := b.days()
	for _, name := range list {
		d, perr := time.Parse("2006-01-02", strings.TrimSuffix(strings.TrimPrefix(name, bodyPrefix), ".db"))
		if perr == nil && !d.Add(24*time.Hour).After(t) {
			err = errors.Join(err, b.drop(name))
		}
	}
	return err
}

// dropOldest deletes the oldest day, if there is one. Today's goes only when it
// is larger than most, in bytes: bodies may not crowd out the Calls.
func (b *bodies) dropOldest(now time.Time, most int64) (bool, error) {
	list, err := b.days()
	if err != nil || len(list) == 0 {
		return false, err
	}
	if list[0] >= dayFile(call.NewID(now)) {
		if st, err := b.disk.Stat(filepath.Join(b.dir, list[0])); err != nil || st.Size() <= most {
			return false, err
		}
	}
	b.log.Info("the oldest bodies are deleted: retention.disk is reached", "file", list[0])
	return true, b.drop(list[0])
}

func (b *bodies) drop(name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if db := b.open[name]; db != nil {
		db.Close()
		delete(b.open, name)
	}
	var err error
	for _, side := range sides {
		if rerr := b.disk.Remove(filepath.Join(b.dir, name) + side); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}

func (b *bodies) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var err error
	for _, db := range b.open {
		err = errors.Join(err, db.Close())
	}
	return err
}
