package local_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/store"
	"github.com/sheepgate/sheepgate/internal/store/local"
	"github.com/sheepgate/sheepgate/internal/store/local/disktest"
)

// A life of a store: everything that it does to its files, on a disk on which
// one operation, or every one from there on, comes to nothing.
type life struct {
	t     *testing.T
	name  string
	dir   string
	disk  *disktest.Disk
	store *local.Store
	log   bytes.Buffer

	n      int                   // Calls made so far
	stored map[string]*call.Call // those that the store said it has
	priced bool                  // a repricing was begun: costs may be the new ones
	sure   bool                  // and it said that it is done
	tried  map[string]bool       // those that it was given
	gone   map[string]bool       // of the days that were to be deleted
	dead   bool                  // everything fails, and the life is at its end
	failed string                // what failed first
}

// The day before yesterday, so that what is merged is a day that is over.
var today = time.Now().UTC().Truncate(24 * time.Hour)

func (l *life) call(day int) *call.Call {
	at := today.Add(time.Duration(day)*24*time.Hour + time.Duration(l.n)*time.Minute)
	l.n++
	return &call.Call{ID: call.DerivedID(at, "disk", strconv.Itoa(l.n)), StartedAt: at, Origin: call.OriginClient, Key: "k", Model: "gpt-4.1", Provider: "openai",
		Status: call.Success, HTTPStatus: 200, Latency: time.Duration(l.n) * time.Millisecond, Usage: llm.Usage{Source: llm.UsageUpstream, Input: 1 << l.n % 40, Output: 1}, Cost: llm.Nano(l.n)}
}

func (l *life) fatal(format string, args ...any) {
	l.t.Helper()
	l.t.Fatalf("%s, where %q failed: %s\n%s", l.name, l.failed+l.disk.Failed(), fmt.Sprintf(format, args...), l.log.String())
}

// open opens the store, twice if need be: it may refuse to start on a disk that
// fails, and must start on one that does not.
func (l *life) open() {
	for try := 0; ; try++ {
		s, err := local.Open(l.dir, local.Options{Disk: l.disk, Log: slog.New(slog.NewTextHandler(&l.log, nil)), Calls: 4 * 24 * time.Hour, Bodies: 4 * 24 * time.Hour})
		if err == nil {
			l.store = s
			return
		}
		if l.over() {
			return
		}
		if try > 0 || l.disk.Failed() == "" {
			l.fatal("open: %v", err)
		}
		l.disk.Fail(0, false, 0)
	}
}

// write offers a batch until it is taken, as the Recorder does.
func (l *life) write(day, n int) {
	var batch []call.Entry
	for range n {
		c := l.call(day)
		batch = append(batch, call.Entry{Call: c, Exchange: &call.Exchange{Request: []byte("{}"), Response: []byte("{}")}})
		l.tried[c.ID] = true
	}
	for try := 0; !l.over(); try++ {
		err := l.store.Write(context.Background(), batch)
		if err == nil {
			for _, e := range batch {
				l.stored[e.ID] = e.Call
			}
			return
		}
		if try == 3 {
			l.fatal("write: %v", err)
		}
		l.heal(try)
	}
}

// heal lets a disk that failed for a while work again.
func (l *life) heal(try int) {
	if try > 0 && l.name[0] == 'w' {
		l.disk.Fail(0, false, 0)
	}
}

func (l *life) over() bool {
	l.dead = l.dead || l.name[0] == 'k' && l.disk.Failed() != "" || l.disk.Dead()
	return l.dead
}

// do does what may fail, and then does not.
func (l *life) do(what string, f func() error) {
	for try := 0; !l.over(); try++ {
		err := f()
		if err == nil {
			return
		}
		if try == 3 {
			l.fatal("%s: %v", what, err)
		}
		l.heal(try)
	}
}

func (l *life) run() {
	ctx := context.Background()
	settle := func() { l.do("settle", func() error { return l.store.Settle(ctx) }) }
	l.open()
	if l.dead {
		return
	}
	l.write(-6, 2)
	l.write(-2, 3)
	settle()
	l.write(-2, 2)
	l.write(0, 1)
	settle() // and merge
	imported := []*call.Call{l.call(-2), l.call(-1)}
	for _, c := range imported {
		l.tried[c.ID] = true
	}
	for _, c := range l.stored {
		if c.StartedAt.After(today.Add(-3 * 24 * time.Hour)) { // there already, and to stay
			imported = append(imported, c)
			break
		}
	}
	l.do("import", func() error {
		_, err := l.store.Import(ctx, imported)
		return err
	})
	if !l.over() {
		for _, c := range imported {
			l.stored[c.ID] = c
		}
	}
	l.reprice()
	l.do("sweep", func() error { return l.store.Sweep(time.Now()) })
	for id, c := range l.stored {
		if c.StartedAt.Before(time.Now().Add(-5 * 24 * time.Hour)) {
			l.gone[id] = true
			if !l.over() {
				delete(l.stored, id)
			}
		}
	}
	l.write(0, 2)
	if l.dead {
		return
	}
	l.do("query", func() error { return l.check(false) })
	l.do("body", func() error {
		for id := range l.stored {
			if _, err := l.store.Body(ctx, id); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		return nil
	})
}

// more is what a repricing adds to a cost that is below it.
const more = 1 << 20

// reprice changes the cost of all Calls but those of the last day, of which
// some are in the tail and some in segments.
func (l *life) reprice() {
	l.priced = true
	l.do("reprice", func() error {
		_, err := l.store.Reprice(context.Background(), store.Repricing{To: today, Price: func(c *call.Call) bool {
			if c.Cost >= more {
				return false
			}
			c.Cost += more
			return true
		}})
		return err
	})
	l.sure = !l.over()
}

// costs reports whether a Call may cost what it does.
func (l *life) costs(got, want *call.Call) bool {
	if !l.priced || !want.StartedAt.Before(today) {
		return got.Cost == want.Cost
	}
	return got.Cost == want.Cost+more || !l.sure && got.Cost == want.Cost
}

// check compares the store with what it said that it has.
func (l *life) check(killed bool) error {
	ctx := context.Background()
	page, err := l.store.List(ctx, store.List{Limit: store.MaxPage})
	if err != nil {
		return err
	}
	seen := map[string]*call.Call{}
	var cost, input int64
	for _, c := range page.Calls {
		if seen[c.ID] != nil {
			l.fatal("%s is there twice", c.ID)
		}
		seen[c.ID] = c
		cost, input = cost+int64(c.Cost), input+c.Usage.Input
		if !l.tried[c.ID] || !killed && l.stored[c.ID] == nil {
			l.fatal("%s should not be there", c.ID)
		}
	}
	for id, want := range l.stored {
		got := seen[id]
		if got == nil && l.gone[id] {
			continue
		}
		if got == nil {
			return fmt.Errorf("%s of %s is lost; there are %d of %d", id, want.StartedAt, len(seen), len(l.stored))
		}
		if !l.costs(got, want) || got.Latency != want.Latency || !got.StartedAt.Equal(want.StartedAt) {
			l.fatal("%+v became %+v", want, got)
		}
	}
	r, err := l.store.Query(ctx, store.Query{From: today.Add(-10 * 24 * time.Hour), To: today.Add(48 * time.Hour), Measures: []string{"requests", "cost_nano_usd", "input_tokens"}})
	if err != nil {
		return err
	}
	if got := [3]int64{r.Total[0].Int, r.Total[1].Int, r.Total[2].Int}; got != [3]int64{int64(len(seen)), cost, input} {
		return fmt.Errorf("a query says %v, the list %v", got, [3]int64{int64(len(seen)), cost, input})
	}
	return nil
}

// aside are the files that were set aside.
func (l *life) aside() []string {
	list, _ := filepath.Glob(filepath.Join(l.dir, "*.quarantine"))
	return slices.DeleteFunc(list, func(name string) bool { return strings.HasSuffix(name, "-wal.quarantine") })
}

func newLife(t *testing.T, name string) *life {
	dir, err := os.MkdirTemp("", "sheepgate-disk-")
	if err != nil {
		t.Fatal(err)
	}
	return &life{t: t, name: name, dir: dir, disk: disktest.New(), stored: map[string]*call.Call{}, tried: map[string]bool{}, gone: map[string]bool{}}
}

func (l *life) end() {
	if l.store != nil {
		l.store.Close()
	}
	l.disk.Close()
	os.RemoveAll(l.dir)
}

// TestDisk lets each operation on a file fail in turn: once, for a while, and
// as the last thing that a process did. Whatever the store said it has is
// there afterwards, once, unchanged, and the store is healthy again.
func TestDisk(t *testing.T) {
	count := newLife(t, "count")
	count.disk.Reads = true
	count.disk.Heal()
	count.run()
	reads := count.disk.Ops()
	count.end()
	count = newLife(t, "count")
	count.run()
	ops := count.disk.Ops()
	count.end()
	every := 1
	if n, err := strconv.Atoi(os.Getenv("SHEEPGATE_DISK_EVERY")); err == nil && n > 0 {
		every = n
	} else if testing.Short() || local.Raced {
		every = 10
	}
	t.Logf("%d operations, %d with reads; one in %d fails, one in %d reads", ops, reads, every, 4*every)
	for _, how := range []struct {
		name  string
		on    bool
		reads bool
		err   syscall.Errno
		kill  bool
	}{
		{"once", false, false, syscall.EIO, false},
		{"while", true, false, syscall.ENOSPC, false},
		{"killed", true, false, syscall.EIO, false},
		{"once and then killed", false, false, syscall.EIO, true},
		{"once read", false, true, syscall.EIO, false},
	} {
		most, every := ops, every
		if how.reads {
			most, every = reads, 4*every
		}
		first := 1 + int(time.Now().Unix()/86400)%every
		t.Run(how.name, func(t *testing.T) {
			t.Parallel()
			aside := map[string]int{}
			for n := first; n <= most+2; n += every {
				l := newLife(t, fmt.Sprintf("%s, %d", how.name, n))
				l.disk.Reads = how.reads
				l.disk.Fail(n, how.on, how.err)
				if how.kill {
					l.disk.Kill(n + 1 + n%7)
				}
				l.run()
				l.failed = l.disk.Failed()
				l.over()
				if l.store != nil && !l.dead {
					l.disk.Fail(0, false, 0)
					for try := 0; ; try++ {
						l.store.Tidy()
						if err := errors.Join(l.store.Sweep(time.Now()), l.store.Health()); err == nil {
							break
						} else if try == 3 {
							l.fatal("it does not heal: %v", err)
						}
						l.write(0, 1)
					}
					if err := l.check(false); err != nil {
						l.fatal("%v", err)
					}
				}
				if l.store != nil {
					l.store.Close()
				}
				l.disk.Fail(0, false, 0)
				l.store = nil
				dead := l.dead
				l.dead, l.name = false, "reopened after "+l.name
				l.open()
				if err := l.store.Sweep(time.Now()); err != nil { // or it happens while we look
					l.fatal("%v", err)
				}
				if err := l.check(dead); err != nil {
					l.fatal("%v", err)
				}
				if err := l.store.Health(); err != nil {
					l.fatal("%v", err)
				}
				for _, f := range l.aside() {
					aside[filepath.Base(f)]++
				}
				l.end()
			}
			if len(aside) > 0 {
				t.Errorf("files were set aside though nothing was damaged: %v", slices.Sorted(maps.Keys(aside)))
			}
		})
	}
}
