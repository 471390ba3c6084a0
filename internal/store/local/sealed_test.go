package local

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
)

// A kill between a seal and the end of what it deletes: what is sealed counts
// once, and what is stored afterwards counts too, though it is stored where
// nothing is any more.
func TestSealedAndNotDeleted(t *testing.T) {
	dir, killed := t.TempDir(), t.TempDir()
	fill(t, dir, 100, 200)
	s := open(t, dir, Options{})
	s.upkeep.Lock()
	if err := s.seal(); err != nil {
		t.Fatal(err)
	}
	_, err := Copy(t.Context(), dir, t.TempDir(), func(name string, f *os.File) error {
		b, err := os.ReadFile(f.Name())
		return errors.Join(err, os.WriteFile(filepath.Join(killed, name), b, 0o600))
	})
	s.upkeep.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	l, err := Inspect(t.Context(), killed)
	if err != nil || l.Calls != 300 || l.Batches != 0 {
		t.Errorf("from outside: %+v, %v", l, err)
	}
	left := func() (n int) {
		h, err := readOnly(filepath.Join(killed, "tail.db"))
		if err == nil {
			err = errors.Join(h.QueryRow("SELECT count(*) FROM tail").Scan(&n), h.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if left() == 0 {
		t.Fatal("nothing is left to be deleted")
	}
	for start := range 3 {
		s = open(t, killed, Options{})
		if n, _ := ask(t, s); n != int64(300+start) || listed(t, s) != 300+start {
			t.Errorf("start %d: %d calls, %d listed, want %d", start, n, listed(t, s), 300+start)
		}
		if !s.Tidy() || left() != start {
			t.Errorf("start %d: %d batches in the database, want %d: %v", start, left(), start, s.Health())
		}
		if err := s.Write(t.Context(), []call.Entry{{Call: testCall(1000 + start)}}); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Who reads for long, as a backup does, keeps the log from being begun anew, and
// nobody from storing Calls.
func TestLongRead(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	h, err := readOnly(filepath.Join(dir, "tail.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	tx, err := h.Begin()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRow("SELECT count(*) FROM tail").Scan(&n); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("0123456789", 1000)
	stored := 0
	write := func(megabytes int) (longest time.Duration) {
		for range megabytes {
			var batch []call.Entry
			for range 100 {
				c := testCall(stored)
				c.Error.Message = long
				batch = append(batch, call.Entry{Call: c})
				stored++
			}
			began := time.Now()
			if err := s.Write(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
			longest = max(longest, time.Since(began))
		}
		return longest
	}
	if took := write(150); took > busyTimeout*time.Millisecond/2 {
		t.Errorf("somebody waited for %v", took)
	}
	wal := func() int64 {
		st, err := os.Stat(filepath.Join(dir, "tail.db-wal"))
		if err != nil {
			t.Fatal(err)
		}
		return st.Size()
	}
	if n := wal(); n <= logMost {
		t.Fatalf("the log has %d bytes: nothing was tried", n)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	write(20)
	for deadline := time.Now().Add(time.Minute); wal() > logMost/2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the log still has %d bytes", wal())
		}
	}
	if n, _ := ask(t, s); n != int64(stored) {
		t.Errorf("%d calls, want %d", n, stored)
	}
}

// That what is sealed cannot be deleted keeps nothing from being sealed.
func TestSealedAndNeverDeleted(t *testing.T) {
	s := open(t, t.TempDir(), Options{SealRows: 10})
	if _, err := s.db.safe.Exec("CREATE TRIGGER never BEFORE DELETE ON tail BEGIN SELECT RAISE(ABORT, 'never'); END"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i := range 20 {
		var calls []*call.Call
		for k := range 10 {
			calls = append(calls, testCall(10*i+k))
		}
		if _, err := s.Import(ctx, calls); err != nil {
			t.Fatal(i, err)
		}
	}
	s.Tidy()
	if err := s.Health(); err == nil || !strings.Contains(err.Error(), "never") {
		t.Errorf("health: %v", err)
	}
	if _, err := s.db.safe.Exec("DROP TRIGGER never"); err != nil {
		t.Fatal(err)
	}
	s.Tidy()
	left := -1
	if err := s.db.safe.QueryRow("SELECT count(*) FROM tail").Scan(&left); err != nil || left != 0 || s.Health() != nil {
		t.Errorf("%d batches are left, %v, health: %v", left, err, s.Health())
	}
	if n, _ := ask(t, s); n != 200 || listed(t, s) != 200 {
		t.Errorf("%d calls, %d listed, want 200", n, listed(t, s))
	}
}

// What is sealed is what Calls are deleted for: a database that contradicts itself
// there, or does not say it, cannot be read.
func TestSealedDamaged(t *testing.T) {
	for _, do := range [...]string{"UPDATE sealed SET upto = upto + 64", "UPDATE sealed SET again = again - 1", "UPDATE sealed SET upto = -1, again = -1",
		"UPDATE sealed SET upto = 'x'", "DELETE FROM sealed", "DROP TABLE sealed"} {
		dir := t.TempDir()
		fill(t, dir, 100, 200)
		h, err := sql.Open("sqlite", filepath.Join(dir, "tail.db"))
		if err == nil {
			_, err = h.Exec(do)
			err = errors.Join(err, h.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		if l, err := Inspect(t.Context(), dir); err != nil || len(l.Broken) != 1 {
			t.Errorf("%s: from outside: %+v, %v", do, l, err)
		}
		s := open(t, dir, Options{})
		if n, _ := ask(t, s); n != 100 {
			t.Errorf("%s: %d calls, want those of the segments", do, n)
		}
		if err := s.Health(); err == nil || !strings.Contains(err.Error(), "tail.db") {
			t.Errorf("%s: health: %v", do, err)
		}
		if list, err := filepath.Glob(filepath.Join(dir, "tail.db*"+quarantined)); err != nil || len(list) == 0 {
			t.Errorf("%s: nothing is set aside, %v", do, err)
		}
	}
}

// A database of the version before: nothing of it is sealed.
func TestUnmarkedDatabase(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 100, 200)
	h, err := sql.Open("sqlite", filepath.Join(dir, "tail.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, do := range [...]string{"DROP TABLE sealed", "PRAGMA user_version = 1"} {
		if _, err := h.Exec(do); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err := Inspect(t.Context(), dir); err != nil || len(l.Broken) > 0 || l.Calls != 100 || l.Batches != 4 {
		t.Errorf("from outside: %+v, %v", l, err)
	}
	for range 2 {
		s := open(t, dir, Options{})
		if n, _ := ask(t, s); n != 300 || s.Health() != nil {
			t.Errorf("%d calls, want 300: %v", n, s.Health())
		}
		var version int
		if err := s.db.safe.QueryRow("PRAGMA user_version").Scan(&version); err != nil || version != dbVersion {
			t.Errorf("it has version %d, %v: one that knows no table sealed would open it", version, err)
		}
		if l, err := Inspect(t.Context(), dir); err != nil || len(l.Broken) > 0 || l.Batches != 4 {
			t.Errorf("from outside: %+v, %v", l, err)
		}
		s.Close()
	}
}
