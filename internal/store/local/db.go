package local

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/store"
)

// A db is the SQLite file of the store: the tail's batches, and the manifest
// that says which files are segments. What is written here in one transaction
// is what makes a step of the store happen.
type db struct {
	tail *sql.DB // one connection: batches are committed without waiting for the disk, and survive a kill
	seal *sql.DB // one connection, as careless: what moves from the tail into files that nobody removes
	safe *sql.DB // reads, and the manifest's other transactions: these survive a loss of power, too, as files are removed after them
	add  *sql.Stmt
	roll [byModel + 1]*sql.Stmt // each rollup

	fresh bool // it has no version yet: see made

	log *log // nil until it is prepared
}

const (
	dbVersion    = 2
	dbUnmarked   = 1       // what was sealed was deleted in the same transaction: no table sealed
	forgetAtOnce = 1 << 20 // bytes of batches that are deleted in one transaction, about
)

const schema = `
CREATE TABLE IF NOT EXISTS tail (
	seq   INTEGER PRIMARY KEY,
	batch BLOB NOT NULL -- see appendBatch
);
CREATE TABLE IF NOT EXISTS sealed ( -- one row: batches up to it are in segments, and are deleted by and by
	upto  INTEGER NOT NULL,
	again INTEGER NOT NULL -- the same: Calls are deleted for it, and SQLite knows no checksum
);
INSERT INTO sealed SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM sealed);
CREATE TABLE IF NOT EXISTS segments (
	name  TEXT PRIMARY KEY,
	bytes INTEGER NOT NULL,
	about TEXT NOT NULL -- JSON, as in the file itself
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rollups (
	segment TEXT NOT NULL,
	block   INTEGER NOT NULL,
	hours   BLOB NOT NULL, -- see rollup, encodePartial
	models  BLOB NOT NULL,
	PRIMARY KEY (segment, block)
) WITHOUT ROWID;`

// from is the part of a database's address that names the disk it is on.
func from(disk Disk) string {
	if vfs := disk.VFS(); vfs != "" {
		return "vfs=" + vfs + "&"
	}
	return ""
}

// smallCache bounds the pages that a connection keeps, in KiB: each would hold
// 2 MB in time, and the system has them in its own cache.
const smallCache = "_pragma=cache_size(-400)"

// openDB opens or makes the database. An error means that it cannot be used.
func openDB(disk Disk, path string) (*db, error) {
	open := func(sync string, conns int, more string) (*sql.DB, error) {
		h, err := sql.Open("sqlite", "file:"+path+"?"+from(disk)+"_pragma=busy_timeout("+strconv.Itoa(busyTimeout)+")"+more+"&_pragma=journal_mode(WAL)&"+smallCache+"&"+noCheckpoint+"&_pragma=synchronous("+sync+")")
		if err == nil {
			h.SetMaxOpenConns(conns)
			h.SetMaxIdleConns(conns)
		}
		return h, err
	}
	d := &db{}
	var err error
	if d.tail, err = open("NORMAL", 1, "&_pragma=auto_vacuum(INCREMENTAL)"); err != nil { // which each connection would commit
		return nil, err
	}
	if d.seal, err = open("NORMAL", 1, ""); err != nil {
		d.close()
		return nil, err
	}
	if d.safe, err = open("FULL", 4, ""); err != nil {
		d.close()
		return nil, err
	}
	if err = d.prepare(); err != nil {
		d.close()
		return nil, err
	}
	d.log = keepLog(d.safe, d.tail)
	return d, nil
}

func (d *db) prepare() error {
	if err := quickCheck(context.Background(), d.tail); err != nil {
		return err
	}
	var version int
	if err := d.tail.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	switch version {
	case dbVersion:
	case dbUnmarked, 0:
		tx, err := d.tail.Begin()
		if err != nil {
			return err
		}
		defer tx.Rollback() // after a commit it does nothing
		if _, err := tx.Exec(schema); err != nil {
			return err
		}
		if version == dbUnmarked {
			if _, err := tx.Exec(setVersion); err != nil {
				return err
			}
		}
		if err := tx.Commit(); err != nil {
			return err
		}
		d.fresh = version == 0
	default:
		return &newerError{version}
	}
	_, err := d.sealed()
	if err != nil {
		return err
	}
	if d.add, err = d.tail.Prepare("INSERT INTO tail (seq, batch) VALUES (?, ?)"); err != nil {
		return err
	}
	for r, column := range map[rollup]string{byHour: "hours", byModel: "models"} {
		if d.roll[r], err = d.safe.Prepare("SELECT " + column + " FROM rollups WHERE segment = ? AND block = ?"); err != nil {
			return err
		}
	}
	return nil
}

// quickCheck looks at the structure of a database.
func quickCheck(ctx context.Context, h *sql.DB) error {
	var check string
	if err := h.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&check); err != nil {
		return err
	}
	if check != "ok" {
		return errors.New(check)
	}
	return nil
}

var setVersion = fmt.Sprintf("PRAGMA user_version = %d", dbVersion)

// made says that a fresh database knows the segments that there are. Until then
// a start takes it for one that was lost.
func (d *db) made() error {
	_, err := d.safe.Exec(setVersion)
	d.fresh = err != nil
	return err
}

// A newerError is a database that a later Sheepgate made: it is left alone.
type newerError struct{ version int }

func (e *newerError) Error() string {
	return fmt.Sprintf("it has version %d, made by a newer sheepgate; this one knows %d", e.version, dbVersion)
}

// passing reports whether err says nothing of the database at path, but that
// the machine lacks something at the moment: it must not be set aside for that.
func passing(disk Disk, path string, err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff { // without the extended part
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL:
		return true
	case sqlite3.SQLITE_CANTOPEN:
		for _, side := range sides {
			if st, err := disk.Stat(path + side); err == nil && st.IsDir() {
				return false
			}
		}
		return true
	}
	return false
}

// again does what a disk that fails for a moment may let fail: a database is not
// set aside for that.
func again(do func() error) error {
	for try := 0; ; try++ {
		err := do()
		var e *sqlite.Error
		if try == 3 || !errors.As(err, &e) || e.Code()&0xff != sqlite3.SQLITE_IOERR {
			return err
		}
		time.Sleep(20 * time.Millisecond << try)
	}
}

func (d *db) close() error {
	d.log.close()
	var err error
	for _, s := range [...]*sql.Stmt{d.add, d.roll[byHour], d.roll[byModel]} {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
	}
	for _, h := range [...]*sql.DB{d.tail, d.seal, d.safe} {
		if h != nil {
			err = errors.Join(err, h.Close())
		}
	}
	return err
}

// append stores a batch: it survives a kill from here on.
func (d *db) append(ctx context.Context, seq int64, batch []byte) error {
	_, err := d.add.ExecContext(ctx, seq, batch)
	d.log.wrote(len(batch) + 2*pageSize) // the last page is written anew, and one above it
	return err
}

// batch reads the batch of a seq, or says errMoved.
func (d *db) batch(ctx context.Context, seq int64) ([]*call.Call, error) {
	var b sql.RawBytes
	rows, err := d.safe.QueryContext(ctx, "SELECT batch FROM tail WHERE seq = ?", seq)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		return nil, errMoved
	}
	if err := rows.Scan(&b); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	calls, err := readBatch(b)
	if err != nil {
		return nil, &batchError{seq, err}
	}
	return calls, nil
}

// A batchError is a batch that cannot be read.
type batchError struct {
	seq int64
	err error
}

func (e *batchError) Error() string { return fmt.Sprintf("store: batch %d: %v", e.seq, e.err) }
func (e *batchError) Unwrap() error { return e.err }

// sealed is the last batch that is in segments, 0 before there is one.
func (d *db) sealed() (int64, error) { return sealed(context.Background(), d.safe) }

func sealed(ctx context.Context, h *sql.DB) (upto int64, err error) {
	var again int64
	if err := h.QueryRowContext(ctx, "SELECT upto, again FROM sealed").Scan(&upto, &again); err != nil {
		return 0, fmt.Errorf("what is sealed: %w", err)
	}
	if upto != again || upto < 0 {
		return 0, fmt.Errorf("what is sealed: up to %d, and up to %d", upto, again)
	}
	return upto, nil
}

// batches gives every batch of the tail in order. bad is told of those that
// cannot be read.
func (d *db) batches(each func(seq int64, calls []*call.Call), bad func(seq int64, err error)) error {
	upto, err := d.sealed()
	if err != nil {
		return err
	}
	rows, err := d.safe.Query("SELECT seq, batch FROM tail WHERE seq > ? ORDER BY seq", upto)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var seq int64
		var b sql.RawBytes
		if err := rows.Scan(&seq, &b); err != nil {
			return err
		}
		calls, err := readBatch(b)
		if err != nil {
			bad(seq, err)
			continue
		}
		each(seq, calls)
	}
	return rows.Err()
}

// segments reads the manifest.
func (d *db) segments(disk Disk, dir string) ([]*segment, error) {
	rows, err := d.safe.Query("SELECT name, bytes, about FROM segments ORDER BY name")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []*segment
	for rows.Next() {
		s := &segment{disk: disk}
		var text []byte
		if err := rows.Scan(&s.name, &s.bytes, &text); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &s.about); err != nil {
			return nil, fmt.Errorf("segment %s: %w", s.name, err)
		}
		if err := s.about.check(); err != nil {
			return nil, fmt.Errorf("segment %s: %w", s.name, err)
		}
		s.path = segmentPath(dir, s.name)
		list = append(list, s)
	}
	return list, rows.Err()
}

// change makes one step of the manifest happen: segments come and go, and the
// tail's batches up to sealed are no part of the tail any more (0 leaves it
// alone). forget deletes them.
func (d *db) change(added, removed []*segment, sealed int64) error {
	rollups := make([][][byModel + 1][]byte, len(added))
	for i, s := range added {
		var err error
		if rollups[i], err = s.rollups(); err != nil {
			return err
		}
	}
	h := d.safe
	if len(removed) == 0 { // who commits a batch must not wait for the disk
		h = d.seal
	} else {
		_ = d.log.checkpoint() // then there is little to wait for
	}
	tx, err := h.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() // after a commit it does nothing
	for _, s := range removed {
		for _, table := range [...]string{"segments WHERE name", "rollups WHERE segment"} {
			if _, err := tx.Exec("DELETE FROM "+table+" = ?", s.name); err != nil {
				return err
			}
		}
	}
	for i, s := range added {
		for block, r := range rollups[i] {
			if _, err := tx.Exec("INSERT INTO rollups (segment, block, hours, models) VALUES (?, ?, ?, ?)", s.name, block, r[byHour], r[byModel]); err != nil {
				return err
			}
		}
		text, err := json.Marshal(s.about)
		if err != nil {
			return err
		}
		if _, err := tx.Exec("INSERT INTO segments (name, bytes, about) VALUES (?, ?, ?)", s.name, s.bytes, text); err != nil {
			return err
		}
	}
	if sealed > 0 {
		if _, err := tx.Exec("UPDATE sealed SET upto = ?1, again = ?1", sealed); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if h == d.seal {
		_ = d.log.checkpoint() // a loss of power before it leaves the tail as it was; what cannot be done now stays in the log
	}
	return nil
}

// forget deletes the batches that are sealed, in steps between which a batch can
// be stored. deleted says that there were some.
func (d *db) forget() (deleted bool, err error) {
	upto, err := d.sealed()
	if err != nil {
		return false, err
	}
	for {
		last, err := d.oldest(upto)
		if err != nil || last == 0 {
			return deleted, err
		}
		if _, err := d.tail.Exec("DELETE FROM tail WHERE seq <= ?", last); err != nil {
			return deleted, err
		}
		deleted = true
		d.log.wrote(forgetAtOnce) // each page, where batches are small
	}
}

// oldest is the last of the oldest batches that together are enough to be
// deleted at once, up to a seq; 0 if there is none.
func (d *db) oldest(upto int64) (last int64, err error) {
	rows, err := d.safe.Query("SELECT seq, length(batch) FROM tail WHERE seq <= ? ORDER BY seq", upto)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for bytes := 0; bytes < forgetAtOnce && rows.Next(); {
		var n int
		if err := rows.Scan(&last, &n); err != nil {
			return 0, err
		}
		bytes += n
	}
	return last, rows.Err()
}

// touch commits something that changes nothing.
func (d *db) touch() error {
	tx, err := d.safe.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() // after a commit it does nothing
	for _, do := range [...]string{"INSERT INTO rollups (segment, block, hours, models) VALUES ('', 0, '', '')", "DELETE FROM rollups WHERE segment = ''"} {
		if _, err := tx.Exec(do); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// rollup reads one of a block's; nil if there is none that can be read.
func (d *db) rollup(ctx context.Context, which rollup, segment string, block int, needs store.Needs) (*partial, error) {
	var b []byte
	err := d.roll[which].QueryRowContext(ctx, segment, block).Scan(&b)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	p, err := readPartial(b, needs)
	if err != nil {
		return nil, nil // the columns say the same
	}
	return p, nil
}

// drop removes a batch that cannot be read, once keep has its bytes.
func (d *db) drop(seq int64, keep func([]byte) error) error {
	tx, err := d.safe.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() // after a commit it does nothing
	var b []byte
	if err := tx.QueryRow("DELETE FROM tail WHERE seq = ? RETURNING batch", seq).Scan(&b); err != nil {
		return err
	}
	if err := keep(b); err != nil {
		return err
	}
	return tx.Commit()
}

// shrink gives the space of what was deleted back to the disk, in steps between
// which a batch can be stored: a large import leaves much behind.
func (d *db) shrink() error {
	for last := -1; ; {
		var free int
		if err := d.tail.QueryRow("PRAGMA freelist_count").Scan(&free); err != nil {
			return err
		}
		if free == 0 || free == last {
			break
		}
		last = free
		if _, err := d.tail.Exec("PRAGMA incremental_vacuum(256)"); err != nil {
			return err
		}
		d.log.wrote(256 * pageSize)
	}
	return d.log.checkpoint()
}
