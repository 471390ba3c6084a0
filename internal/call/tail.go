package call

import (
	"context"
	"sync"
)

// A Tail is a Sink that hands new Calls to whoever is listening: the console's
// live pages. A listener that is too slow misses Calls rather than holding up
// others.
type Tail struct {
	mu   sync.Mutex
	next int
	subs map[int]chan []*Call
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
	for _, ch := range t.subs {
		select {
		case ch <- calls:
		default:
		}
	}
	return nil
}

// Subscribe gives batches of Calls from now on until stop is called. The Calls
// are shared and must not be changed.
func (t *Tail) Subscribe() (calls <-chan []*Call, stop func()) {
	ch := make(chan []*Call, 64)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.subs == nil {
		t.subs = map[int]chan []*Call{}
	}
	id := t.next
	t.next++
	t.subs[id] = ch
	return ch, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.subs, id)
	}
}
