package call

import (
	"context"
	"sync"
	"sync/atomic"
)

// A Tail is a Sink that hands new Calls to whoever is listening: the console's
// live pages. A listener that is too slow misses Calls rather than holding up
// others, and can know that it did.
type Tail struct {
	mu   sync.Mutex
	next int
	subs map[int]*listener
}

type listener struct {
	calls  chan []*Call
	missed atomic.Bool
}

// Write implements Sink.
func (t *Tail) Write(_ context.Context, batch []Entry) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.subs) == 0 {
		return nil
	}
	calls := make([]*Call, len(batch))
	for i, e := range batch {
		calls[i] = e.Call
	}
	for _, l := range t.subs {
		select {
		case l.calls <- calls:
		default:
			l.missed.Store(true)
		}
	}
	return nil
}

// Subscribe gives batches of Calls from now on until stop is called. The Calls
// are shared and must not be changed. missed reports whether batches were left
// out since it was asked before.
func (t *Tail) Subscribe() (calls <-chan []*Call, missed func() bool, stop func()) {
	l := &listener{calls: make(chan []*Call, 64)}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.subs == nil {
		t.subs = map[int]*listener{}
	}
	id := t.next
	t.next++
	t.subs[id] = l
	return l.calls, func() bool { return l.missed.Swap(false) }, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.subs, id)
	}
}
