package call

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// An Exchange is the copy of a request's and a reply's bytes that checks and
// kept bodies need. Each side holds at most MaxExchange bytes.
type Exchange struct {
	Request, Response    []byte
	RequestCut, ReplyCut bool // the side was longer and is not complete
}

// MaxExchange bounds each side of an Exchange, in bytes.
const MaxExchange = 1 << 20

func (x *Exchange) size() int64 { return int64(len(x.Request) + len(x.Response)) }

// An Entry is what a Recorder carries: a Call and, where something wants it,
// its Exchange.
type Entry struct {
	*Call
	Exchange *Exchange // may be nil
}

// A Sink takes Calls in batches of at most 1,000, in the order they ended. An
// error means that it took none of the batch; it is offered again.
type Sink interface {
	Write(ctx context.Context, batch []Entry) error
}

const (
	queueLen   = 8192                  // Calls; at 5,000 a second, more than a second of a stalled disk
	maxBatch   = 1000                  // Calls given to a sink at once
	maxBytes   = 64 << 20              // of the Exchanges that are held; a Call comes without its own beyond them
	gather     = 20 * time.Millisecond // how long a batch waits for company: a Call is stored well within 200 ms
	maxHold    = 50 * time.Millisecond // how long a full queue holds a handler
	retryAfter = 200 * time.Millisecond
	warnEvery  = 10 * time.Second
)

// A Recorder carries Calls from the data plane to whatever watches them. Its
// queue is bounded: when it is full for longer than 50 ms the Call is dropped
// and counted in Lost. Observers see every Call, at once, also a lost one.
type Recorder struct {
	log       *slog.Logger
	observers []func(*Call)
	sinks     []Sink
	wake      chan struct{} // has a token when the queue is no longer empty, a batch is full, or it is closed
	done      chan struct{}
	cancel    context.CancelFunc // ends retries

	mu     sync.Mutex
	queue  [queueLen]Entry // a ring: the oldest at head
	head   int
	len    int
	room   chan struct{} // closed once there is room again; nil if nobody waits for it
	closed bool

	pending atomic.Int64
	lost    atomic.Int64
	bytes   atomic.Int64 // of the Exchanges that are held
	bare    atomic.Int64
	failing atomic.Bool
}

// NewRecorder starts a Recorder. Observers run in the caller of Add and must be
// quick; sinks run one after another in the Recorder's own goroutine.
func NewRecorder(log *slog.Logger, observers []func(*Call), sinks ...Sink) *Recorder {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Recorder{log: log, observers: observers, sinks: sinks, wake: make(chan struct{}, 1), done: make(chan struct{}), cancel: cancel}
	go r.run(ctx)
	return r
}

// Add records an ended Call. It owns c and x from here on.
func (r *Recorder) Add(c *Call, x *Exchange) {
	for _, observe := range r.observers {
		observe(c)
	}
	r.mu.Lock()
	if r.len == queueLen && !r.closed {
		r.hold()
	}
	if r.closed || r.len == queueLen {
		r.mu.Unlock()
		r.lost.Add(1)
		return
	}
	if x != nil && r.bytes.Load()+x.size() > maxBytes {
		x = nil
		r.bare.Add(1)
	}
	if x != nil {
		r.bytes.Add(x.size())
	}
	r.queue[(r.head+r.len)%queueLen] = Entry{c, x}
	r.len++
	r.pending.Add(1)
	n := r.len
	r.mu.Unlock()
	if n == 1 || n == maxBatch { // and for none in between: a goroutine that wakes costs more than this function
		r.signal()
	}
}

// hold waits until the queue has room, for as long as a handler may be held.
// The lock is held before and after.
func (r *Recorder) hold() {
	t := time.NewTimer(maxHold)
	defer t.Stop()
	for over := false; !over && r.len == queueLen && !r.closed; {
		if r.room == nil {
			r.room = make(chan struct{})
		}
		room := r.room
		r.mu.Unlock()
		select {
		case <-room:
		case <-t.C:
			over = true
		}
		r.mu.Lock()
	}
}

func (r *Recorder) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Lost is how many Calls were dropped since the start: a full queue, or a sink
// that failed until Close.
func (r *Recorder) Lost() int64 { return r.lost.Load() }

// Bare is how many Calls came without their Exchange since the start: a sink was
// too slow for what the Exchanges weigh.
func (r *Recorder) Bare() int64 { return r.bare.Load() }

// Pending is how many Calls have ended and are not in every sink yet.
func (r *Recorder) Pending() int64 { return r.pending.Load() }

// Failing reports whether a sink refuses Calls at the moment.
func (r *Recorder) Failing() bool { return r.failing.Load() }

// Close takes no more Calls and waits until those taken are in the sinks, or
// ctx ends; what is left then is lost.
func (r *Recorder) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.free()
	r.mu.Unlock()
	r.signal()
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		r.cancel()
		<-r.done
		return ctx.Err()
	}
}

func (r *Recorder) run(ctx context.Context) {
	defer close(r.done)
	batch := make([]Entry, 0, maxBatch)
	for {
		batch = r.next(batch[:0])
		if len(batch) == 0 {
			return
		}
		bytes := int64(0)
		for _, e := range batch {
			if e.Exchange != nil {
				bytes += e.Exchange.size()
			}
		}
		for _, s := range r.sinks {
			r.write(ctx, s, batch)
		}
		r.pending.Add(-int64(len(batch)))
		r.bytes.Add(-bytes)
		clear(batch)
	}
}

// next appends a batch: what comes within the gathering time of its first Call.
// It appends nothing once the Recorder is closed and empty.
func (r *Recorder) next(batch []Entry) []Entry {
	var late <-chan time.Time
	for {
		r.mu.Lock()
		n, closed := r.len, r.closed
		if closed || n >= maxBatch {
			batch = r.take(batch)
			r.mu.Unlock()
			return batch
		}
		r.mu.Unlock()
		if n > 0 && late == nil {
			t := time.NewTimer(gather)
			defer t.Stop()
			late = t.C
		}
		select {
		case <-r.wake:
		case <-late:
			r.mu.Lock()
			batch = r.take(batch)
			r.mu.Unlock()
			return batch
		}
	}
}

// take moves at most a batch out of the queue. The lock is held.
func (r *Recorder) take(batch []Entry) []Entry {
	n := min(r.len, maxBatch)
	for range n {
		batch = append(batch, r.queue[r.head])
		r.queue[r.head] = Entry{}
		r.head = (r.head + 1) % queueLen
	}
	r.len -= n
	r.free()
	return batch
}

// free wakes those who wait for room. The lock is held.
func (r *Recorder) free() {
	if r.room != nil {
		close(r.room)
		r.room = nil
	}
}

// write offers batch to s until it is taken or ctx ends: a sink in trouble
// holds the queue, and the queue's bound holds the rest.
func (r *Recorder) write(ctx context.Context, s Sink, batch []Entry) {
	var warned time.Time
	for {
		err := s.Write(ctx, batch)
		if err == nil {
			r.failing.Store(false)
			return
		}
		r.failing.Store(true)
		if now := time.Now(); now.Sub(warned) > warnEvery {
			warned = now
			r.log.Error("calls cannot be stored", "calls", len(batch), "lost", r.Lost(), "err", err)
		}
		select {
		case <-ctx.Done():
			r.lost.Add(int64(len(batch)))
			return
		case <-time.After(retryAfter):
		}
	}
}
