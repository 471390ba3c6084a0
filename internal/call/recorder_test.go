package call

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A keeper is a Sink that a test scripts.
type keeper struct {
	mu      sync.Mutex
	batches [][]string
	times   []time.Time
	refuse  func(n int) error // called with the number of the attempt, from 1
	tries   int
}

func (k *keeper) Write(_ context.Context, batch []Entry) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tries++
	if k.refuse != nil {
		if err := k.refuse(k.tries); err != nil {
			return err
		}
	}
	var ids []string
	for _, e := range batch {
		ids = append(ids, e.ID)
	}
	k.batches, k.times = append(k.batches, ids), append(k.times, time.Now())
	return nil
}

func (k *keeper) written() ([][]string, []time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.batches), slices.Clone(k.times)
}

func (k *keeper) all() []string {
	b, _ := k.written()
	return slices.Concat(b...)
}

func add(r *Recorder, from, to int) {
	for i := from; i < to; i++ {
		r.Add(&Call{ID: strconv.Itoa(i)}, nil)
	}
}

// checkAll: ids from 0 to n-1, each once and in order.
func checkAll(t *testing.T, ids []string, n int) {
	t.Helper()
	if len(ids) != n {
		t.Fatalf("%d Calls in the sink, want %d", len(ids), n)
	}
	for i, id := range ids {
		if id != strconv.Itoa(i) {
			t.Fatalf("Call %d is %s", i, id)
		}
	}
}

func TestRecorder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, seen := &keeper{}, 0
		r := NewRecorder(slog.New(slog.DiscardHandler), []func(*Call){func(*Call) { seen++ }}, k)
		start := time.Now()
		add(r, 0, 1)
		time.Sleep(gather / 2)
		add(r, 1, 3) // company
		if r.Pending() != 3 || len(k.all()) != 0 {
			t.Errorf("%d pending and %d stored before the gathering time is over", r.Pending(), len(k.all()))
		}
		time.Sleep(gather)
		synctest.Wait()
		if b, at := k.written(); len(b) != 1 || at[0].Sub(start) != gather || r.Pending() != 0 {
			t.Errorf("batches %v at %v, %d pending", b, at, r.Pending())
		}
		now := time.Now()
		add(r, 3, 3+2*maxBatch+5) // two full batches are taken at once
		synctest.Wait()
		if b, at := k.written(); len(b) != 3 || !at[2].Equal(now) || len(b[1]) != maxBatch || len(b[2]) != maxBatch {
			t.Errorf("%d batches", len(b))
		}
		time.Sleep(gather)
		synctest.Wait()
		checkAll(t, k.all(), 8+2*maxBatch)
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if r.Add(&Call{}, nil); r.Lost() != 1 || seen != 9+2*maxBatch {
			t.Errorf("a Call after Close: %d lost, %d seen", r.Lost(), seen)
		}
	})
}

// TestRecorderClose: what was taken is stored, at once.
func TestRecorderClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{}
		r := NewRecorder(slog.New(slog.DiscardHandler), nil, k)
		add(r, 0, 2500)
		start := time.Now()
		if err := r.Close(context.Background()); err != nil || time.Since(start) != 0 {
			t.Errorf("Close: %v after %v", err, time.Since(start))
		}
		checkAll(t, k.all(), 2500)
		if err := r.Close(context.Background()); err != nil {
			t.Error("Close twice:", err)
		}
	})
}

// TestRecorderFull: a full queue holds the caller for 50 ms and no longer, and
// the Call is lost only if there is no room by then.
func TestRecorderFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		k := &keeper{refuse: func(int) error {
			if !up.Load() {
				return errors.New("disk full")
			}
			return nil
		}}
		r := NewRecorder(slog.New(slog.DiscardHandler), nil, k)
		add(r, 0, maxBatch)
		synctest.Wait() // the batch is with the sink
		add(r, maxBatch, maxBatch+queueLen)
		if !r.Failing() || r.Lost() != 0 || r.Pending() != maxBatch+queueLen {
			t.Errorf("failing %v, %d lost, %d pending", r.Failing(), r.Lost(), r.Pending())
		}
		start := time.Now()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { r.Add(&Call{ID: "lost"}, nil) })
		}
		wg.Wait()
		if d := time.Since(start); d != maxHold || r.Lost() != 3 {
			t.Errorf("held for %v, %d lost; want %v, 3", d, r.Lost(), maxHold)
		}
		time.Sleep(retryAfter - 2*maxHold + maxHold/2) // half a hold before the next offer
		up.Store(true)
		start = time.Now()
		for range 3 {
			wg.Go(func() { r.Add(&Call{ID: strconv.Itoa(maxBatch + queueLen)}, nil) })
		}
		wg.Wait()
		if d := time.Since(start); d >= maxHold || r.Lost() != 3 {
			t.Errorf("held for %v, %d lost, though room came", d, r.Lost())
		}
		if err := r.Close(context.Background()); err != nil || r.Failing() {
			t.Error(err, r.Failing())
		}
		ids := k.all()
		checkAll(t, ids[:maxBatch+queueLen], maxBatch+queueLen)
		if len(ids) != maxBatch+queueLen+3 {
			t.Errorf("%d Calls", len(ids))
		}
	})
}

// TestRecorderGivesUp: a sink that fails until Close's context ends loses what
// is left, and that is counted.
func TestRecorderGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{refuse: func(int) error { return errors.New("gone") }}
		r := NewRecorder(slog.New(slog.DiscardHandler), nil, k)
		add(r, 0, 1500)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := r.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || r.Lost() != 1500 {
			t.Errorf("Close: %v, %d lost", err, r.Lost())
		}
	})
}

// TestRecorderMany: nothing is lost or doubled among many callers and a Close.
func TestRecorderMany(t *testing.T) {
	k := &keeper{}
	r := NewRecorder(slog.New(slog.DiscardHandler), nil, k)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { add(r, 0, 3000) })
	}
	time.Sleep(5 * time.Millisecond)
	if err := r.Close(context.Background()); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if n := len(k.all()) + int(r.Lost()); n != 8*3000 || r.Pending() != 0 {
		t.Errorf("%d stored and %d lost of %d, %d pending", len(k.all()), r.Lost(), 8*3000, r.Pending())
	}
}

// TestRecorderBytes: what a stalled sink holds in memory is bounded. A Call is
// kept though its Exchange is not.
func TestRecorderBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{}
		r := NewRecorder(slog.New(slog.DiscardHandler), nil, k)
		big := make([]byte, MaxExchange)
		for i := range 40 { // at once: 80 MiB
			r.Add(&Call{ID: strconv.Itoa(i)}, &Exchange{Request: big, Response: big})
		}
		time.Sleep(gather)
		synctest.Wait()
		checkAll(t, k.all(), 40)
		if kept := 40 - r.Bare(); kept != maxBytes/(2*MaxExchange) {
			t.Errorf("%d Exchanges were kept", kept)
		}
		bare := r.Bare()
		if r.Add(&Call{ID: "40"}, &Exchange{Request: big}); r.Bare() != bare {
			t.Error("what is stored takes room")
		}
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// TestRecorderBytesHeld: Exchanges of handlers that wait for room in the queue
// count when they come into it.
func TestRecorderBytesHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{}
		slow := sinkFunc(func() { time.Sleep(gather) })
		r := NewRecorder(slog.New(slog.DiscardHandler), nil, slow, k)
		for i := range queueLen + maxBatch {
			if r.Add(&Call{ID: strconv.Itoa(i)}, nil); i == maxBatch {
				synctest.Wait() // a batch is with the sink
			}
		}
		big := make([]byte, MaxExchange)
		for i := range 100 {
			go r.Add(&Call{ID: "x" + strconv.Itoa(i)}, &Exchange{Request: big, Response: big})
		}
		time.Sleep(maxHold)
		synctest.Wait()
		if n := r.bytes.Load(); n > maxBytes {
			t.Errorf("%d bytes are held", n)
		}
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if r.Lost() != 0 || 100-r.Bare() != maxBytes/(2*MaxExchange) {
			t.Errorf("%d lost, %d bare", r.Lost(), r.Bare())
		}
	})
}

type sinkFunc func()

func (f sinkFunc) Write(context.Context, []Entry) error {
	f()
	return nil
}
