package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sheepgate/sheepgate/internal/config"
)

// A reloader reads the configuration again when its file changes or a SIGHUP
// comes. What is valid is put in force at once; what is not changes nothing.
type reloader struct {
	s    *server
	read func() (*config.Config, error)
	file string    // "" if there is none
	from time.Time // before the configuration in force was read
	hup  <-chan os.Signal
	out  io.Writer

	mu      sync.Mutex // one at a time
	now     *config.Config
	good    atomic.Int64
	bad     atomic.Int64
	failing atomic.Bool
}

// counts are for the metrics.
func (r *reloader) counts() (good, bad int64, failing bool) {
	return r.good.Load(), r.bad.Load(), r.failing.Load()
}

// reload reads the configuration and puts it in force. The error says what is
// wrong with it; the one before then stays as it was.
func (r *reloader) reload(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	log := r.s.log
	c, err := r.read()
	if err == nil {
		err = r.s.apply(ctx, c)
	}
	if err != nil {
		r.bad.Add(1)
		r.failing.Store(true)
		var problems config.Problems
		if errors.As(err, &problems) {
			for _, p := range problems {
				log.Error("the configuration is not valid: the one before stays in force", "problem", p.String())
			}
		} else {
			log.Error("the configuration is not valid: the one before stays in force", "err", err)
		}
		return err
	}
	lines := config.Diff(r.now, c)
	for _, path := range config.Fixed(r.now, c) {
		log.Warn("changes with the next start only", "key", path)
	}
	for _, line := range lines {
		log.Info("configuration changed", "key", line)
	}
	log.Info("configuration read", "changes", len(lines))
	if r.s.adminKey != "" { // the file has none any more
		greet(r.out, r.s)
	}
	r.good.Add(1)
	r.failing.Store(false)
	r.now = c
	return nil
}

// start watches until the function that it returns is called, which waits.
func (r *reloader) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	r.s.reloader.Store(r)
	var done sync.WaitGroup
	done.Go(func() { r.watch(ctx) })
	return func() { cancel(); done.Wait() }
}

// lookEvery is how often the file is looked at. It is read, not asked for its
// time alone: a file that a mount swaps may be older than the one before.
const lookEvery = 2 * time.Second

// watch reloads until ctx ends.
func (r *reloader) watch(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	seen := r.print()
	if r.written() { // while the server started
		_ = r.reload(ctx)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.hup:
			seen = r.print()
			_ = r.reload(ctx) // it has said what is wrong
		case <-tick.C:
			now := r.print()
			if now == seen || now == (fingerprint{}) { // it may be away for a moment
				continue
			}
			if seen = now; r.settled(now) {
				_ = r.reload(ctx)
			} else {
				seen = fingerprint{}
			}
		}
	}
}

// settled reports whether the file is not just being written.
func (r *reloader) settled(now fingerprint) bool {
	time.Sleep(100 * time.Millisecond)
	return r.print() == now
}

// files are those that make the configuration: the file itself, and the prices of
// one's own that it names.
func (r *reloader) files() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc([]string{r.file, r.now.Prices.Overrides}, func(name string) bool { return name == "" })
}

// written reports whether a file is newer than what was read of it.
func (r *reloader) written() bool {
	for _, name := range r.files() {
		if st, err := os.Stat(name); err == nil && st.ModTime().After(r.from) {
			return true
		}
	}
	return false
}

type fingerprint [sha256.Size]byte

// print is what the configuration's files hold.
func (r *reloader) print() (sum fingerprint) {
	h := sha256.New()
	some := false
	for _, name := range r.files() {
		if st, err := os.Stat(name); err != nil || !st.Mode().IsRegular() || st.Size() > 64<<20 {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		some = true
		fmt.Fprintf(h, "%d ", len(b))
		h.Write(b)
	}
	if some {
		h.Sum(sum[:0])
	}
	return sum
}
