package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
)

// ErrUnavailable says that a store cannot be opened at the moment, for what
// will pass: a full disk, a lock, a volume that is not there.
var ErrUnavailable = errors.New("not available at the moment")

const openEvery = 2 * time.Second

// A Late store is one that was not available when it was wanted: it is opened
// as soon as it can be. Until then it takes nothing, so that a Recorder holds
// what comes, and it says why in Health. The data plane goes on without it.
type Late struct {
	mu   sync.RWMutex // guards what follows
	s    Store        // nil until it is open
	why  error
	stop chan struct{}
	done chan struct{}
	once sync.Once
}

// NewLate makes one that failed to open with why. open is tried until it
// succeeds or Close is called.
func NewLate(why error, open func() (Store, error), log *slog.Logger) *Late {
	l := &Late{why: why, stop: make(chan struct{}), done: make(chan struct{})}
	log.Error("the store is not available: calls are served, and kept in memory until it is", "err", why)
	go func() {
		defer close(l.done)
		t := time.NewTicker(openEvery)
		defer t.Stop()
		for {
			select {
			case <-l.stop:
				return
			case <-t.C:
			}
			s, err := open()
			l.mu.Lock()
			l.s, l.why = s, err
			l.mu.Unlock()
			if err == nil {
				log.Info("the store is available")
				return
			}
		}
	}()
	return l
}

func (l *Late) get() (Store, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.why != nil {
		return nil, fmt.Errorf("store: %w", l.why)
	}
	return l.s, nil
}

// Write implements call.Sink.
func (l *Late) Write(ctx context.Context, batch []call.Entry) error {
	s, err := l.get()
	if err != nil {
		return err
	}
	return s.Write(ctx, batch)
}

// Import implements Store.
func (l *Late) Import(ctx context.Context, calls []*call.Call) (int, error) {
	s, err := l.get()
	if err != nil {
		return 0, err
	}
	return s.Import(ctx, calls)
}

// Get implements Store.
func (l *Late) Get(ctx context.Context, id string) (*call.Call, error) {
	s, err := l.get()
	if err != nil {
		return nil, err
	}
	return s.Get(ctx, id)
}

// Body implements Store.
func (l *Late) Body(ctx context.Context, id string) (*call.Exchange, error) {
	s, err := l.get()
	if err != nil {
		return nil, err
	}
	return s.Body(ctx, id)
}

// List implements Store.
func (l *Late) List(ctx context.Context, q List) (Page, error) {
	s, err := l.get()
	if err != nil {
		return Page{}, err
	}
	return s.List(ctx, q)
}

// Query implements Store.
func (l *Late) Query(ctx context.Context, q Query) (*Result, error) {
	s, err := l.get()
	if err != nil {
		return nil, err
	}
	return s.Query(ctx, q)
}

// Reprice implements Store.
func (l *Late) Reprice(ctx context.Context, r Repricing) ([]Repriced, error) {
	s, err := l.get()
	if err != nil {
		return nil, err
	}
	return s.Reprice(ctx, r)
}

// Health implements Store.
func (l *Late) Health() error {
	s, err := l.get()
	if err != nil {
		return err
	}
	return s.Health()
}

// Close implements Store.
func (l *Late) Close() error {
	l.once.Do(func() { close(l.stop) })
	<-l.done
	if s, err := l.get(); err == nil {
		return s.Close()
	}
	return nil
}

var _ Store = (*Late)(nil)
