package local

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
)

// copyTo makes a folder of what Copy gives.
func copyTo(t *testing.T, dir string) (to string, missing []string) {
	t.Helper()
	to = t.TempDir()
	missing, err := Copy(t.Context(), dir, t.TempDir(), func(name string, f *os.File) error {
		st, err := f.Stat()
		if err != nil {
			return err
		}
		b, err := io.ReadAll(io.NewSectionReader(f, 0, st.Size()))
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to, missing
}

// TestCopy copies a store that is written, sealed and merged all the time: each
// copy holds the first n Calls, each once, and no fewer than were stored before.
func TestCopy(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{SealRows: 200})
	ctx, cancel := context.WithCancel(t.Context())
	var stored atomic.Int64
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		for n := 0; ctx.Err() == nil && n < 40_000; n += 20 {
			time.Sleep(2 * time.Millisecond)
			var batch []call.Entry
			for i := n; i < n+20; i++ {
				batch = append(batch, call.Entry{Call: testCall(i), Exchange: &call.Exchange{Request: []byte("q"), Response: []byte("a")}})
			}
			if err := s.Write(context.WithoutCancel(ctx), batch); err != nil {
				t.Error(err)
				return
			}
			stored.Store(int64(n + 20))
		}
	})
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := s.Settle(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	for stored.Load() < 1000 && !t.Failed() {
		time.Sleep(time.Millisecond)
	}
	for range 4 {
		before := stored.Load()
		to, missing := copyTo(t, dir)
		after := stored.Load()
		if len(missing) > 0 {
			t.Errorf("missing: %v", missing)
		}
		c := open(t, to, Options{})
		n, input := ask(t, c)
		if n < before || n > after+20 || input != n*(n-1)/2 || n%20 != 0 {
			t.Errorf("a copy has %d Calls with %d input tokens, between %d and %d were stored", n, input, before, after)
		}
		if got := listed(t, c); int64(got) != n {
			t.Errorf("a copy lists %d Calls and counts %d", got, n)
		}
		for _, i := range []int64{0, before - 1} {
			if x, err := c.Body(t.Context(), testCall(int(i)).ID); err != nil || string(x.Response) != "a" {
				t.Errorf("the body of Call %d of %d in a copy: %v", i, n, err)
			}
		}
		if err := c.Health(); err != nil {
			t.Errorf("a copy: %v", err)
		}
	}
}

func TestCopyOfWhatIsDamaged(t *testing.T) {
	if to, missing := copyTo(t, filepath.Join(t.TempDir(), "none")); len(missing) > 0 {
		t.Errorf("a folder that is not there misses %v", missing)
	} else if list, _ := os.ReadDir(to); len(list) > 0 {
		t.Errorf("a folder that is not there has %v", list)
	}
	dir := t.TempDir()
	fill(t, dir, 500, 100)
	list, _ := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if len(list) != 1 {
		t.Fatal(list)
	}
	aside := filepath.Join(dir, "calls-x"+suffix+quarantined)
	if err := errors.Join(os.WriteFile(aside, []byte("?"), 0o600), os.WriteFile(strings.TrimSuffix(aside, quarantined)+orphaned, nil, 0o600), os.Rename(list[0], list[0]+"~")); err != nil {
		t.Fatal(err)
	}
	to, missing := copyTo(t, dir)
	if len(missing) != 1 || missing[0] != filepath.Base(list[0]) {
		t.Errorf("missing %v, want %v", missing, list)
	}
	if b, err := os.ReadFile(filepath.Join(to, filepath.Base(aside))); err != nil || string(b) != "?" {
		t.Errorf("what was set aside is %q, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(to, "calls-x"+suffix+orphaned)); err == nil {
		t.Error("an orphan was copied")
	}
	if n, _ := ask(t, open(t, to, Options{})); n != 100 {
		t.Errorf("without its segment a copy has %d Calls, want the tail's 100", n)
	}
	if err := errors.Join(os.Rename(list[0]+"~", list[0]), os.Remove(filepath.Join(dir, "tail.db"))); err != nil {
		t.Fatal(err)
	}
	to, _ = copyTo(t, dir)
	if n, _ := ask(t, open(t, to, Options{})); n != 500 {
		t.Errorf("without its database a copy has %d Calls, want the segment's 500", n)
	}
	if err := os.WriteFile(filepath.Join(dir, "tail.db"), []byte(strings.Repeat("not a database ", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Copy(t.Context(), dir, t.TempDir(), func(string, *os.File) error { return nil }); err == nil || !strings.Contains(err.Error(), "tail.db") {
		t.Errorf("Copy of a damaged database: %v", err)
	}
}

// A database that was made anew and does not know the segments yet counts as
// none: they are copied, and the copy finds them.
func TestCopyOfFresh(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 100, 0)
	path := filepath.Join(dir, "tail.db")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	d, err := openDB(machine{}, path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	to, missing := copyTo(t, dir)
	if len(missing) > 0 {
		t.Errorf("missing: %q", missing)
	}
	if n := listed(t, open(t, to, Options{})); n != 100 {
		t.Errorf("the copy has %d calls, want 100", n)
	}
	if l, err := Inspect(t.Context(), dir); err != nil || len(l.Broken) > 0 {
		t.Errorf("Inspect: %+v, %v", l, err)
	}
}

func TestInspect(t *testing.T) {
	dir := t.TempDir()
	look := func() *Look {
		t.Helper()
		l, err := Inspect(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	if l := look(); l.Calls != 0 || !l.Newest.IsZero() || len(l.Broken) > 0 {
		t.Errorf("an empty folder: %+v", l)
	}
	fill(t, dir, 500, 100)
	if locked, err := Locked(dir); locked || err != nil {
		t.Errorf("Locked of a closed store = %v, %v", locked, err)
	}
	s := open(t, dir, Options{})
	if locked, err := Locked(dir); !locked || err != nil {
		t.Errorf("Locked of an open store = %v, %v", locked, err)
	}
	if l := look(); l.Segments != 1 || l.Calls != 500 || l.Batches != 2 || !l.Newest.Equal(testCall(599).StartedAt) || len(l.Broken)+len(l.Aside) > 0 {
		t.Errorf("an open store: %+v", l)
	}
	s.Close()
	list, _ := filepath.Glob(filepath.Join(dir, "*"+suffix))
	b, err := os.ReadFile(list[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(list[0], append(b[:len(b)-40:len(b)-40], make([]byte, 40)...), 0o600), os.WriteFile(filepath.Join(dir, "x"+orphaned), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if l := look(); len(l.Broken) != 1 || !strings.HasPrefix(l.Broken[0].Error(), filepath.Base(list[0])+": ") || len(l.Aside) != 1 {
		t.Errorf("a damaged segment: %+v", l)
	}
	os.Remove(list[0])
	if l := look(); len(l.Broken) != 1 {
		t.Errorf("a lost segment: %+v", l)
	}
	if err := os.WriteFile(filepath.Join(dir, "tail.db"), []byte(strings.Repeat("not a database ", 5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if l := look(); len(l.Broken) != 1 || !strings.HasPrefix(l.Broken[0].Error(), "tail.db: ") {
		t.Errorf("a damaged database: %+v", l)
	}
}
