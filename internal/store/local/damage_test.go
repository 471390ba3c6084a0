package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/store"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func testCall(i int) *call.Call {
	at := start.Add(time.Duration(i) * time.Minute)
	return &call.Call{ID: call.DerivedID(at, "test", fmt.Sprint(i)), StartedAt: at, Origin: call.OriginClient, Key: "k", Model: "gpt-4.1", Provider: "openai",
		Status: call.Success, HTTPStatus: 200, Latency: time.Duration(i+1) * time.Millisecond, ResponseID: fmt.Sprintf("chatcmpl-%d", i),
		Usage: llm.Usage{Source: llm.UsageUpstream, Input: int64(i), Output: 1}, Cost: llm.Nano(i), Tags: map[string]string{"env": "prod"}}
}

func open(t *testing.T, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// fill makes a folder with n Calls a minute apart in segments, and tail more in
// the tail.
func fill(t *testing.T, dir string, n, tail int) {
	t.Helper()
	s := open(t, dir, Options{})
	put := func(from, to int) {
		var calls []*call.Call
		for i := from; i < to; i++ {
			calls = append(calls, testCall(i))
		}
		if added, err := s.Import(t.Context(), calls); err != nil || added != to-from {
			t.Fatal(added, err)
		}
	}
	put(0, n)
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := n; i < n+tail; i += 50 {
		put(i, min(i+50, n+tail))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// ask gives the count of Calls and the sum of their input tokens.
func ask(t *testing.T, s *Store) (requests, input int64) {
	t.Helper()
	r, err := s.Query(t.Context(), store.Query{From: start.AddDate(0, -1, 0), To: start.AddDate(0, 1, 0), Filter: store.Filter{"tag:env": {"prod"}}, Measures: []string{"requests", "input_tokens"}})
	if err != nil {
		t.Fatal(err)
	}
	return r.Total[0].Int, r.Total[1].Int
}

// listed walks all pages and fails on a Call that is there twice or changed.
func listed(t *testing.T, s *Store) int {
	t.Helper()
	seen := map[string]bool{}
	q := store.List{Limit: 1000}
	for {
		p, err := s.List(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range p.Calls {
			if seen[c.ID] {
				t.Fatalf("call %s is there twice", c.ID)
			}
			seen[c.ID] = true
			if want := testCall(int(c.StartedAt.Sub(start) / time.Minute)); c.ID != want.ID || c.Usage.Input != want.Usage.Input || c.Cost != want.Cost {
				t.Fatalf("call %s has changed: %+v", c.ID, c)
			}
		}
		if q.Cursor = p.Next; q.Cursor == "" {
			return len(seen)
		}
	}
}

// Whatever happens to a file, the store opens, names it, sets it aside, counts
// what is left without a Call twice, and takes new ones.
func TestDamage(t *testing.T) {
	const sealed, inTail = 4000, 200 // three days and a bit: 720 + 1440 + 1440 + 400
	damages := map[string]func(b []byte, r *rand.Rand) []byte{
		"cut":     func(b []byte, r *rand.Rand) []byte { return b[:r.IntN(len(b))] },
		"emptied": func([]byte, *rand.Rand) []byte { return nil },
		"grown":   func(b []byte, _ *rand.Rand) []byte { return append(b, "surplus"...) },
		"garbled": func(b []byte, r *rand.Rand) []byte {
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			return b
		},
		"flipped": func(b []byte, r *rand.Rand) []byte {
			for range max(1, len(b)/400) { // some in every page
				b[r.IntN(len(b))] ^= 1 << r.IntN(8)
			}
			return b
		},
		"head lost": func(b []byte, _ *rand.Rand) []byte { clear(b[:min(len(b), 200)]); return b },
		"tail lost": func(b []byte, _ *rand.Rand) []byte { clear(b[max(0, len(b)-200):]); return b },
	}
	for name, damage := range damages {
		for _, victim := range []string{"calls-2026-11-02", "calls-2026-11-04", "tail.db"} {
			t.Run(name+" "+victim, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				fill(t, dir, sealed, inTail)
				list, err := filepath.Glob(filepath.Join(dir, victim+"*"))
				if err != nil || len(list) == 0 {
					t.Fatal(list, err)
				}
				path := list[0]
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, damage(b, rand.New(rand.NewPCG(1, 2))), 0o600); err != nil {
					t.Fatal(err)
				}
				var log bytes.Buffer
				var mu sync.Mutex
				s := open(t, dir, Options{Log: slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil))})
				n, _ := ask(t, s)
				want := map[string]int64{"calls-2026-11-02": sealed + inTail - 1440, "calls-2026-11-04": sealed + inTail - 400, "tail.db": sealed}[victim]
				if n != want && !(victim == "tail.db" && n == sealed+inTail) {
					t.Errorf("%d calls are left, want %d", n, want)
				}
				if got := listed(t, s); int64(got) != n {
					t.Errorf("the list has %d calls, the query counts %d", got, n)
				}
				added, err := s.Import(t.Context(), []*call.Call{testCall(9000), testCall(9001)})
				if err != nil || added != 2 {
					t.Errorf("import afterwards: %d, %v", added, err)
				}
				if n == sealed+inTail {
					return // the damage was in nothing that counts: a free page of the database
				}
				mu.Lock()
				defer mu.Unlock()
				if base := filepath.Base(path); !strings.Contains(log.String(), base) || s.Health() == nil || !strings.Contains(s.Health().Error(), base) {
					t.Errorf("%s is not named:\nlog: %s\nhealth: %v", base, log.String(), s.Health())
				}
				if aside, _ := filepath.Glob(path + "*" + quarantined); len(aside) == 0 && len(b) > 0 && name != "emptied" {
					t.Errorf("%s was not set aside", path)
				}
			})
		}
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

// A kill between two steps of a seal or a merge leaves files that the manifest
// does not know: they count for nothing.
func TestHalfDone(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 4000, 200)
	s := open(t, dir, Options{})
	for _, parts := range s.parts(s.tails[0]) { // sealed, and killed before the manifest knew
		if _, err := writeSegment(machine{}, dir, parts, nil); err != nil {
			t.Fatal(err)
		}
	}
	files, err := merged(s.segments[:2])
	if err != nil {
		t.Fatal(err)
	}
	for _, parts := range files {
		if _, err := writeSegment(machine{}, dir, parts, []string{s.segments[0].name, s.segments[1].name}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "new-123.tmp"), []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, dir, Options{})
	if n, _ := ask(t, s); n != 4200 || listed(t, s) != 4200 {
		t.Errorf("%d calls, %d listed, want 4200", n, listed(t, s))
	}
	if err := s.Health(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "new-123.tmp")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the half file: %v", err)
	}
	s.Close()

	// With the database gone as well, a merged file counts and not what it was made of.
	for _, f := range []string{"tail.db", "tail.db-wal", "tail.db-shm"} {
		os.Remove(filepath.Join(dir, f))
	}
	orphans, _ := filepath.Glob(filepath.Join(dir, "*"+orphaned))
	for _, o := range orphans {
		if err := os.Rename(o, strings.TrimSuffix(o, orphaned)); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, dir, Options{})
	if n, _ := ask(t, s); n != 4200 || listed(t, s) != 4200 {
		t.Errorf("from the files alone: %d calls, %d listed, want 4200", n, listed(t, s))
	}
}

func TestBrokenBatch(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 100, 200) // four batches of 50
	s := open(t, dir, Options{})
	if _, err := s.db.safe.Exec("UPDATE tail SET batch = x'010203' WHERE seq = (SELECT min(seq) FROM tail)"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, dir, Options{})
	if n, _ := ask(t, s); n != 250 {
		t.Errorf("%d calls are left, want 250", n)
	}
	if err := s.Health(); err == nil || !strings.Contains(err.Error(), "batch-") {
		t.Errorf("health: %v", err)
	}
	// And while the store is open: the rest is sealed.
	if _, err := s.db.safe.Exec("UPDATE tail SET batch = x'010203' WHERE seq = (SELECT max(seq) FROM tail)"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.List(t.Context(), store.List{Limit: 500}); err == nil {
		t.Error("a damaged batch was listed")
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if page, err := s.List(t.Context(), store.List{Limit: 500}); err == nil && len(page.Calls) == 200 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the list does not heal: %d, %v", len(page.Calls), err)
		}
	}
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, _ := ask(t, s); n != 200 || s.tailRows() != 0 {
		t.Errorf("%d calls are left, %d in the tail, want 200 in segments", n, s.tailRows())
	}
	if aside, err := filepath.Glob(filepath.Join(dir, "batch-*"+quarantined)); err != nil || len(aside) != 2 {
		t.Errorf("set aside: %v, %v", aside, err)
	}
}

// A poorDisk lacks something: what lack says of an operation comes of it.
type poorDisk struct {
	machine
	lack func(op, name string) error
}

func (d poorDisk) Open(name string) (File, error) {
	if err := d.lack("open", name); err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return d.machine.Open(name)
}

func (d poorDisk) Create(name string) (File, error) {
	if err := d.lack("create", name); err != nil {
		return nil, &os.PathError{Op: "create", Path: name, Err: err}
	}
	return d.machine.Create(name)
}

// What a machine lacks while a store is repaired at its start is no damage, and
// may pass: nothing is set aside, and the next start repairs all of it.
func TestRepairInterrupted(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 100, 100)
	later := func(what string, lack func(op, name string) error) {
		t.Helper()
		if s, err := Open(dir, Options{Disk: poorDisk{lack: lack}}); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
			if err == nil {
				s.Close()
			}
		}
	}
	s := open(t, dir, Options{})
	if _, err := s.db.safe.Exec("UPDATE tail SET batch = x'010203' WHERE seq = (SELECT min(seq) FROM tail)"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	later("no room to set a batch aside", func(op, name string) error {
		if op == "create" {
			return syscall.ENOSPC
		}
		return nil
	})
	s = open(t, dir, Options{})
	if n := listed(t, s); n != 150 {
		t.Errorf("%d calls are left, want 150", n)
	}
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Close()
	for _, side := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(filepath.Join(dir, "tail.db"+side)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	later("no descriptors to read segments for the manifest", func(op, name string) error {
		if op == "open" && strings.HasSuffix(name, suffix) {
			return syscall.EMFILE
		}
		return nil
	})
	d, err := openDB(machine{}, filepath.Join(dir, "tail.db")) // and a start that was killed there
	if err != nil {
		t.Fatal(err)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Options{})
	if n := listed(t, s); n != 150 {
		t.Errorf("%d calls are left, want 150", n)
	}
	s.Close()
	s = open(t, dir, Options{})
	if n := listed(t, s); n != 150 {
		t.Errorf("%d calls are left, want 150", n)
	}
}

// A segment that cannot be read, and then not be looked at for want of
// descriptors, may be whole: it stays.
func TestNoDescriptors(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 100, 0)
	var opened, poor atomic.Int32
	s := open(t, dir, Options{Disk: poorDisk{lack: func(op, name string) error {
		switch {
		case op != "open" || !strings.HasSuffix(name, suffix) || poor.Load() == 0:
			return nil
		case opened.Add(1) == 1:
			return syscall.EIO
		}
		return syscall.EMFILE
	}}})
	poor.Store(1)
	if _, err := s.Get(t.Context(), testCall(1).ID); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("got a call without descriptors: %v", err)
	}
	poor.Store(0)
	if n := listed(t, s); n != 100 {
		t.Errorf("%d calls are left, want 100", n)
	}
	if err := s.Health(); err != nil {
		t.Error(err)
	}
}

// An asideDisk has room for so many batches that are set aside.
type asideDisk struct {
	machine
	room atomic.Int32
}

func (d *asideDisk) Create(name string) (File, error) {
	f, err := d.machine.Create(name)
	if err == nil && strings.HasPrefix(filepath.Base(name), "batch-") && d.room.Add(-1) < 0 {
		return fullFile{f}, nil
	}
	return f, err
}

type fullFile struct{ File }

func (fullFile) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// Several batches are damaged while the store is open, and the disk is full when
// the second is set aside: none is lost, and the rest is sealed once it can be.
func TestBrokenBatches(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 100, 200) // four batches of 50
	disk := &asideDisk{}
	disk.room.Store(1)
	s := open(t, dir, Options{Disk: disk})
	if _, err := s.db.safe.Exec("UPDATE tail SET batch = x'010203' WHERE seq IN (SELECT seq FROM tail ORDER BY seq LIMIT 3) AND seq > (SELECT min(seq) FROM tail)"); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("settled on a full disk: %v", err)
	}
	aside := func() []string {
		t.Helper()
		list, err := filepath.Glob(filepath.Join(dir, "batch-*"+quarantined))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if l := aside(); len(l) != 1 {
		t.Errorf("set aside on a full disk: %v", l)
	}
	disk.room.Store(10)
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := listed(t, s); n != 200 || s.tailRows() != 0 {
		t.Errorf("%d calls are left, %d in the tail, want 200 in segments", n, s.tailRows())
	}
	if l := aside(); len(l) != 2 {
		t.Errorf("set aside: %v", l)
	}
	if err := s.Health(); err == nil || strings.Count(err.Error(), "batch-") != 2 {
		t.Errorf("health: %v", err)
	}
}

// A database that cannot be opened at the moment, here because the volume that
// it lies on is not mounted yet, is not set aside for that.
func TestNotNow(t *testing.T) {
	dir, volume := t.TempDir(), filepath.Join(t.TempDir(), "volume")
	fill(t, dir, 100, 50)
	path := filepath.Join(dir, "tail.db")
	if err := os.Mkdir(volume, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, filepath.Join(volume, "tail.db")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(volume, "tail.db"), path); err != nil {
		t.Skip(err)
	}
	if err := os.Rename(volume, volume+"-away"); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "tail.db") {
		t.Errorf("opened without its database: %v", err)
		if err == nil {
			s.Close()
		}
	}
	if err := os.Rename(volume+"-away", volume); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, Options{})
	if n, _ := ask(t, s); n != 150 {
		t.Errorf("%d calls are left, want 150", n)
	}
	if err := s.Health(); err != nil {
		t.Error(err)
	}
}

// A fullDisk has no room for new files while it is true.
type fullDisk struct {
	machine
	atomic.Bool
}

func (d *fullDisk) Create(name string) (File, error) {
	if d.Load() {
		return nil, syscall.ENOSPC
	}
	return d.machine.Create(name)
}

// A seal that fails is tried again now and then, not all the time, and an
// import that waits for it says so. Those that write are not concerned.
func TestSealFails(t *testing.T) {
	var log bytes.Buffer
	var mu sync.Mutex
	full := &fullDisk{}
	s := open(t, t.TempDir(), Options{SealRows: 10, Disk: full, Log: slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil))})
	n := 0
	put := func() error {
		var calls []*call.Call
		for range 10 {
			calls = append(calls, testCall(n))
			n++
		}
		_, err := s.Import(t.Context(), calls)
		return err
	}
	s.upkeep.Lock()
	for range mergeAt + 1 { // a merge is due, and waits for the seal
		if err := put(); err != nil {
			t.Fatal(err)
		}
		if n <= 10*mergeAt {
			if err := s.seal(); err != nil {
				t.Fatal(err)
			}
		}
	}
	full.Store(true)
	s.upkeep.Unlock()
	var err error
	for began := time.Now(); err == nil && time.Since(began) < 20*time.Second; {
		err = put()
	}
	if err == nil || !strings.Contains(err.Error(), "sealed") {
		t.Errorf("an import that cannot go on: %v", err)
	}
	for range 20 {
		if err := s.Write(t.Context(), []call.Entry{{Call: testCall(n)}}); err != nil {
			t.Error(err)
		}
		n++
		s.poke()
		time.Sleep(10 * time.Millisecond)
	}
	mu.Lock()
	defer mu.Unlock()
	if tries := strings.Count(log.String(), "step=seal"); tries == 0 || tries > 5 {
		t.Errorf("%d tries to seal", tries)
	}
}

func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, Options{})
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second store on the folder: %v", err)
	}
}

func TestNewerDatabase(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	if _, err := s.db.tail.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "newer sheepgate") {
		t.Errorf("a database of a newer version: %v", err)
	}
}

func TestRetention(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 4000, 0)
	s := open(t, dir, Options{})
	entry := func(at time.Time) call.Entry {
		c := testCall(0)
		c.ID = call.NewID(at)
		c.StartedAt = at
		return call.Entry{Call: c, Exchange: &call.Exchange{Request: bytes.Repeat([]byte("x"), 10), Response: []byte("y")}}
	}
	old, young := entry(start), entry(start.AddDate(0, 0, 2))
	if err := s.Write(t.Context(), []call.Entry{old, young}); err != nil {
		t.Fatal(err)
	}
	s.upkeep.Lock()
	defer s.upkeep.Unlock()
	if err := s.seal(); err != nil {
		t.Fatal(err)
	}
	s.o.Calls, s.o.Bodies = 36*time.Hour, 36*time.Hour
	if err := s.sweep(start.AddDate(0, 0, 3)); err != nil { // noon of the 4th: what ended before the 3rd goes
		t.Fatal(err)
	}
	if n, _ := ask(t, s); n != 1440+400+1 {
		t.Errorf("%d calls are left, want those of the 3rd and 4th", n)
	}
	if _, err := s.Body(t.Context(), old.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an expired body: %v", err)
	}
	if x, err := s.Body(t.Context(), young.ID); err != nil || string(x.Response) != "y" {
		t.Errorf("a kept body: %v, %v", x, err)
	}
	// What was set aside stays: that Calls go makes no room for it.
	aside := filepath.Join(dir, "tail.db.1"+quarantined)
	if err := os.WriteFile(aside, make([]byte, 64<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s.o.Bytes = 64 << 20
	if err := s.sweep(start.AddDate(0, 0, 3)); err == nil || !strings.Contains(err.Error(), "set aside") {
		t.Errorf("a folder full of what was set aside: %v", err)
	}
	if n, _ := ask(t, s); n != 1440+400+1 {
		t.Errorf("%d calls are left, want those of the 3rd and 4th", n)
	}
	if err := os.Remove(aside); err != nil {
		t.Fatal(err)
	}
	s.o.Bytes = 1
	if err := s.sweep(start.AddDate(0, 0, 3)); err != nil {
		t.Fatal(err)
	}
	if n, _ := ask(t, s); n != 0 {
		t.Errorf("%d calls are left in a folder that may hold nothing", n)
	}
}

// Everything at once: writers, importers, readers and upkeep.
func TestTogether(t *testing.T) {
	s := open(t, t.TempDir(), Options{SealRows: 500, Cache: 1 << 16})
	ctx, cancel := context.WithCancel(t.Context())
	var readers, writers sync.WaitGroup
	const each = 2500
	for w := range 3 {
		writers.Go(func() {
			for i := 0; i < each; i += 25 {
				var batch []call.Entry
				var calls []*call.Call
				for k := i; k < i+25; k++ {
					c := testCall(w*each + k)
					batch, calls = append(batch, call.Entry{Call: c}), append(calls, c)
				}
				if w == 0 {
					if n, err := s.Import(ctx, append(calls, calls[0])); n != 25 || err != nil {
						t.Error(n, err)
					}
				} else if err := s.Write(ctx, batch); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 3 {
		readers.Go(func() {
			last := int64(0)
			for ctx.Err() == nil {
				n, _ := ask(t, s)
				if n < last {
					t.Errorf("%d calls after %d", n, last)
				}
				last = n
				p, err := s.List(t.Context(), store.List{Limit: 20, Text: "chatcmpl"})
				if err != nil {
					t.Error(err)
				}
				for _, c := range p.Calls {
					if got, err := s.Get(t.Context(), c.ID); err != nil || got.ID != c.ID {
						t.Error(err)
					}
				}
			}
		})
	}
	writers.Wait()
	if err := s.Settle(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	readers.Wait()
	if n, sum := ask(t, s); n != 3*each || sum != 3*each*(3*each-1)/2 {
		t.Errorf("%d calls with %d input tokens", n, sum)
	}
	if n := listed(t, s); n != 3*each {
		t.Errorf("%d calls are listed", n)
	}
	if err := s.Health(); err != nil {
		t.Error(err)
	}
}

// Between the moment when a batch that cannot be read leaves the database and the
// one when questions see it, its Calls are nowhere: a question waits, however long
// that takes.
func TestListWhileMoving(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 100, 50)
	s := open(t, dir, Options{})
	s.moving.Lock()
	if _, err := s.db.safe.Exec("DELETE FROM tail"); err != nil {
		t.Fatal(err)
	}
	var n int
	var errs [2]error
	var wg sync.WaitGroup
	wg.Go(func() {
		var p store.Page
		p, errs[0] = s.List(t.Context(), store.List{Limit: 1000})
		n = len(p.Calls)
	})
	wg.Go(func() { _, errs[1] = s.Get(t.Context(), testCall(120).ID) })
	time.Sleep(50 * time.Millisecond)
	s.mu.Lock()
	s.tails = []*tail{newTail()}
	s.mu.Unlock()
	s.moving.Unlock()
	wg.Wait()
	if n != 100 || errs[0] != nil || !errors.Is(errs[1], store.ErrNotFound) {
		t.Errorf("%d calls, %v", n, errs)
	}
}

// A question of more groups than fit is asked twice, and answers the same.
func TestManyGroups(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	var calls []*call.Call
	for i := range 3000 {
		c := testCall(i)
		c.User = fmt.Sprintf("user-%d", i%1200)
		calls = append(calls, c)
	}
	if _, err := s.Import(t.Context(), calls); err != nil {
		t.Fatal(err)
	}
	in := store.Query{From: start, To: start.AddDate(0, 0, 10), GroupBy: []string{"user"}, Measures: []string{"requests", "input_tokens", "latency_p95"}}
	in.Step, _ = store.ParseStep("1d")
	whole, err := s.Query(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := in.Plan()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.gather(t.Context(), question{Plan: plan}, 100); !errors.Is(err, errTooMany) {
		t.Fatalf("gather within 100 cells: %v", err)
	}
	twice, err := s.queryTwice(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(whole) != fmt.Sprint(twice) {
		t.Errorf("asked at once:\n%v\nasked twice:\n%v", whole, twice)
	}
}

// A tag that some Calls of a block have not is the same word each time that it
// is asked for within a question.
func TestTagAskedTwice(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	var calls []*call.Call
	for i := range 90 {
		c := testCall(i)
		if i%3 != 0 {
			c.Tags = map[string]string{"team": fmt.Sprint("team-", i%3)}
		}
		calls = append(calls, c)
	}
	if _, err := s.Import(t.Context(), calls); err != nil {
		t.Fatal(err)
	}
	q := store.Query{From: start, To: start.AddDate(0, 0, 1), GroupBy: []string{"tag:team"}, Filter: store.Filter{"tag:team": {"", "team-1"}},
		Measures: []string{"requests"}}
	want, err := s.Query(t.Context(), q) // of the tail
	if err != nil || len(want.Series) != 2 || want.Total[0].Int != 60 {
		t.Fatalf("%v, error %v", want, err)
	}
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := s.Query(t.Context(), q)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("sealed: %v, error %v\nin the tail: %v", got, err, want)
	}
}

// An import whose caller leaves at any moment keeps nobody from writing.
func TestCanceledImport(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Duration(r.IntN(1000))*time.Microsecond, cancel)
		_, _ = s.Import(ctx, []*call.Call{testCall(2 * i)}) // may have been canceled
		cancel()
		if err := s.Write(t.Context(), []call.Entry{{Call: testCall(2*i + 1)}}); err != nil {
			t.Fatalf("the write after canceled import %d: %v", i, err)
		}
	}
	n := 0
	err := s.db.batches(func(_ int64, calls []*call.Call) { n += len(calls) }, func(int64, error) {})
	if m := s.tailRows(); err != nil || n != m {
		t.Errorf("the database holds %d calls and the tail %d, error %v", n, m, err)
	}
}

func FuzzBatch(f *testing.F) {
	f.Add(appendBatch(nil, []*call.Call{testCall(1), testCall(2)}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		calls, err := readBatch(b)
		if err != nil {
			return
		}
		again, err := readBatch(appendBatch(nil, calls))
		if err != nil || len(again) != len(calls) {
			t.Fatalf("%d calls, then %d, %v", len(calls), len(again), err)
		}
	})
}

// The checksum keeps most input out: this one makes it right.
func FuzzBatchBody(f *testing.F) {
	b := appendBatch(nil, []*call.Call{testCall(1), testCall(2)})
	f.Add(b[:len(b)-4])
	f.Fuzz(func(t *testing.T, body []byte) {
		_, _ = readBatch(withChecksum(body))
	})
}

func FuzzPartial(f *testing.F) {
	s, err := Open(f.TempDir(), Options{})
	if err != nil {
		f.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Import(context.Background(), []*call.Call{testCall(1), testCall(2)}); err != nil {
		f.Fatal(err)
	}
	p, err := byModel.rolled().compute(s.tails[0], 0, 1<<62)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encodePartial(p))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4 { // the checksum keeps most input out: make it right
			b = withChecksum(b[:len(b)-4])
		}
		p, err := readPartial(b, everything)
		if err != nil {
			return
		}
		if again, err := readPartial(encodePartial(p), everything); err != nil || fmt.Sprint(again.keys, again.groups) != fmt.Sprint(p.keys, p.groups) {
			t.Fatalf("%v, then %v, %v", p, again, err)
		}
	})
}

func FuzzSegment(f *testing.F) {
	dir := f.TempDir()
	s, err := Open(filepath.Join(dir, "s"), Options{})
	if err != nil {
		f.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Import(context.Background(), []*call.Call{testCall(1), testCall(2), testCall(3)}); err != nil {
		f.Fatal(err)
	}
	if err := s.Settle(context.Background()); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(s.segments[0].path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	path := filepath.Join(dir, "x.parquet")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		g := &segment{name: "x", path: path}
		o, err := openSegment(machine{}, path, &g.about)
		if err != nil {
			return
		}
		g.file = o
		for i := range g.Blocks {
			for name := range o.columns {
				_, _ = g.column(i, name, nil, nil)
			}
			_, _ = g.calls(i, []int32{0}, nil)
		}
	})
}
