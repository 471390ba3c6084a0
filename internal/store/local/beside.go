package local

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// What a second process may do beside the one that has the store open: copy it
// and look at it. Both only read, and neither takes the folder's lock.

// readOnly opens a database beside whoever writes to it. SQLite's log gives
// each transaction one moment to look at, and holds up no writer.
func readOnly(path string) (*sql.DB, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(10000)")
	if err == nil {
		db.SetMaxOpenConns(1)
	}
	return db, err
}

// copyDB writes what the database holds at one moment to a new file.
func copyDB(ctx context.Context, from, to string) error {
	db, err := readOnly(from)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, "VACUUM INTO ?", to)
	return err
}

// A segment that the manifest names and that is not there was deleted since
// (then the next look at the manifest does not name it), or it is lost.
const (
	copyTries = 5
	copyPause = 200 * time.Millisecond
)

// Copy gives each the files of the store in dir as they were at one moment,
// whoever writes there meanwhile: Calls in a copy of the database are those
// committed before it, and the segments are the ones that this very copy
// names. They never change, so that it is enough to have them open before they
// are deleted. Bodies are copied after the Calls they belong to. Files that
// were set aside come too; orphans, which the manifest does not know, do not.
//
// tmp is a folder for the copies of databases, one at a time. missing are
// segments that the manifest names and nobody finds.
func Copy(ctx context.Context, dir, tmp string, each func(name string, f *os.File) error) (missing []string, err error) {
	held := holding{}
	defer held.close()
	base := filepath.Join(tmp, "tail.db")
	defer os.Remove(base)
	var segments []string
	for try := 1; ; try++ {
		if segments, missing, err = held.moment(ctx, dir, base); err != nil {
			return nil, err
		}
		if len(missing) == 0 || try == copyTries {
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(copyPause):
		}
	}
	if err := eachFile(base, "tail.db", each); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, name := range segments {
		if f := held[name]; f != nil {
			if err := errors.Join(ctx.Err(), each(name, f)); err != nil {
				return nil, err
			}
		}
	}
	return missing, copyRest(ctx, dir, tmp, each)
}

// A holding is segments that are open, by name.
type holding map[string]*os.File

func (h holding) close() {
	for _, f := range h {
		f.Close()
	}
}

// open opens the files that it does not hold; missing are not there.
func (h holding) open(dir string, names []string) (missing []string, err error) {
	for _, name := range names {
		if h[name] != nil {
			continue
		}
		f, err := os.Open(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, name)
			continue
		}
		if err != nil {
			return nil, err
		}
		h[name] = f
	}
	return missing, nil
}

// moment copies the database to base and opens the segments that it names.
// Without a database there is no copy, and every segment counts, as with one
// that was just made: a store makes its manifest anew from them.
func (h holding) moment(ctx context.Context, dir, base string) (segments, missing []string, err error) {
	there, err := folder(dir)
	if err != nil {
		return nil, nil, err
	}
	segments = slices.DeleteFunc(there, func(name string) bool { return !strings.HasSuffix(name, suffix) })
	if _, err := h.open(dir, segments); err != nil { // now: fewer can be gone once the manifest is read
		return nil, nil, err
	}
	if err := os.Remove(base); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	path := filepath.Join(dir, "tail.db")
	switch err := copyDB(ctx, path, base); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, nil, fmt.Errorf("store: %s: %w", path, err)
	default:
		list, err := readManifest(ctx, base)
		if errors.Is(err, errFresh) {
			break
		}
		if err != nil {
			return nil, nil, fmt.Errorf("store: %s: %w", path, err)
		}
		segments = nil
		for _, g := range list {
			segments = append(segments, g.name)
		}
	}
	missing, err = h.open(dir, segments)
	return segments, missing, err
}

// copyRest gives bodies and what was set aside. What is deleted meanwhile, by
// retention or by hand, is left out.
func copyRest(ctx context.Context, dir, tmp string, each func(name string, f *os.File) error) error {
	there, err := folder(dir)
	if err != nil {
		return err
	}
	for _, name := range there {
		path := filepath.Join(dir, name)
		var err error
		switch {
		case strings.Contains(name, quarantined):
			err = eachFile(path, name, each)
		case strings.HasPrefix(name, bodyPrefix) && strings.HasSuffix(name, ".db"):
			err = copyBodies(ctx, path, filepath.Join(tmp, name), each)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func copyBodies(ctx context.Context, path, tmp string, each func(name string, f *os.File) error) error {
	defer os.Remove(tmp)
	if err := copyDB(ctx, path, tmp); err != nil {
		if _, gone := os.Stat(path); gone != nil {
			return gone
		}
		return fmt.Errorf("store: %s: %w", path, err)
	}
	return eachFile(tmp, filepath.Base(path), each)
}

func eachFile(path, name string, each func(name string, f *os.File) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return each(name, f)
}

// folder names the regular files of a folder; none if it is not there.
func folder(dir string) ([]string, error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range list {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// errFresh says that a database does not know the segments yet: it was made this
// moment, or anew.
var errFresh = errors.New("it does not know its segments yet")

// readManifest reads which segments the database at path knows.
func readManifest(ctx context.Context, path string) ([]*segment, error) {
	h, err := readOnly(path)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	var version int
	if err := h.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return nil, err
	}
	switch version {
	case dbVersion, dbUnmarked:
		return (&db{safe: h}).segments(machine{}, filepath.Dir(path))
	case 0:
		return nil, errFresh
	}
	return nil, &newerError{version}
}

// A Look is what can be seen of a store from outside.
type Look struct {
	Segments int
	Calls    int       // in the segments
	Batches  int       // in the tail
	Newest   time.Time // when the newest Call started, as far as that is known without reading all; zero without a Call
	Aside    []string  // files that could not be read, and orphans
	Broken   []error   // what cannot be read now
}

// Inspect looks at the store in dir: the database's structure, the last batch
// of the tail, and of each segment its size and what it says of itself.
func Inspect(ctx context.Context, dir string) (*Look, error) {
	there, err := folder(dir)
	if err != nil {
		return nil, err
	}
	l := &Look{}
	for _, name := range there {
		if strings.Contains(name, quarantined) || strings.HasSuffix(name, orphaned) {
			l.Aside = append(l.Aside, name)
		}
	}
	path := filepath.Join(dir, "tail.db")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err := l.tail(ctx, path); err != nil {
		l.Broken = append(l.Broken, fmt.Errorf("tail.db: %w", err))
		return l, nil
	}
	list, err := readManifest(ctx, path)
	if err != nil && !errors.Is(err, errFresh) {
		l.Broken = append(l.Broken, fmt.Errorf("tail.db: %w", err))
		return l, nil
	}
	broken := map[string]error{}
	for _, g := range list {
		l.Segments, l.Calls = l.Segments+1, l.Calls+g.Rows
		l.newer(g.about.span().Last)
		g.path = segmentPath(dir, g.name)
		if err := g.look(); err != nil {
			broken[g.name] = err
		}
	}
	if len(broken) == 0 {
		return l, nil
	}
	if list, err = readManifest(ctx, path); err != nil { // a merge may have replaced them by now
		return nil, err
	}
	for _, g := range list {
		if err := broken[g.name]; err != nil {
			l.Broken = append(l.Broken, fmt.Errorf("%s: %w", g.name, err))
		}
	}
	return l, nil
}

func (l *Look) newer(micros int64) {
	if t := time.UnixMicro(micros).UTC(); t.After(l.Newest) {
		l.Newest = t
	}
}

// tail looks at the database.
func (l *Look) tail(ctx context.Context, path string) error {
	db, err := readOnly(path)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := quickCheck(ctx, db); err != nil {
		return err
	}
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	var upto int64
	if version == dbVersion {
		var err error
		if upto, err = sealed(ctx, db); err != nil {
			return err
		}
	}
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM tail WHERE seq > ?", upto).Scan(&l.Batches); err != nil || l.Batches == 0 {
		return err
	}
	var b []byte
	switch err := db.QueryRowContext(ctx, "SELECT batch FROM tail WHERE seq > ? ORDER BY seq DESC LIMIT 1", upto).Scan(&b); {
	case errors.Is(err, sql.ErrNoRows): // sealed since
		return nil
	case err != nil:
		return err
	}
	calls, err := readBatch(b)
	for _, c := range calls {
		l.newer(c.StartedAt.UnixMicro())
	}
	return err
}

// look opens the segment's file, to see that it can be.
func (s *segment) look() error {
	st, err := os.Stat(s.path)
	if err != nil {
		return err
	}
	if st.Size() != s.bytes {
		return fmt.Errorf("it has %d bytes instead of %d", st.Size(), s.bytes)
	}
	about := s.about
	_, err = openSegment(s.disk, s.path, &about) // closed when nobody refers to it
	return err
}
