package gateway

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestEnding: an ending is a context as the standard library's are, but for the
// causes.
func TestEnding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := errors.New("mine")
		of, leave := context.WithCancelCause(context.WithValue(t.Context(), mine, 1))
		e := newEnding(of)
		var called atomic.Int32
		call := func() { called.Add(1) }
		stop := e.AfterFunc(call)
		e.AfterFunc(call)
		derived, cancel := context.WithTimeout(e, time.Hour)
		defer cancel()
		afterwards := context.AfterFunc(e, call)
		if e.Err() != nil || context.Cause(e) != nil || derived.Err() != nil || e.Value(mine) != nil {
			t.Errorf("it has not ended: %v %v %v", e.Err(), context.Cause(e), derived.Err())
		}
		if !stop() || stop() {
			t.Error("what is stopped once is not stopped twice")
		}
		e.end(mine)
		e.end(context.Canceled)
		leave(errors.New("theirs"))
		<-e.Done()
		<-derived.Done()
		synctest.Wait()
		if !errors.Is(e.Err(), mine) || !errors.Is(context.Cause(e), mine) || !errors.Is(context.Cause(derived), mine) || called.Load() != 2 || afterwards() {
			t.Errorf("%v %v %v, %d called", e.Err(), context.Cause(e), context.Cause(derived), called.Load())
		}
		e.AfterFunc(call)
		synctest.Wait()
		if called.Load() != 3 {
			t.Error("what comes after the end is called at once")
		}

		of, leave = context.WithCancelCause(t.Context())
		e = newEnding(of)
		stop = e.AfterFunc(call)
		leave(mine)
		if !errors.Is(e.Err(), mine) { // at once, not when somebody gets to it
			t.Error(e.Err())
		}
		synctest.Wait()
		if called.Load() != 4 || stop() {
			t.Errorf("%d called", called.Load())
		}
		gone := newEnding(of)
		synctest.Wait()
		<-gone.Done()
		gone.end(nil)
	})
	for range 1000 { // all at once
		of, leave := context.WithCancel(t.Context())
		e := newEnding(of)
		var called, stopped atomic.Int32
		var wg sync.WaitGroup
		wg.Go(leave)
		wg.Go(func() { e.end(nil) })
		ended := make(chan struct{})
		stop := e.AfterFunc(func() { called.Add(1); close(ended) })
		wg.Go(func() {
			if stop() {
				stopped.Add(1)
			} else {
				<-ended
			}
		})
		wg.Wait()
		if called.Load()+stopped.Load() != 1 {
			t.Fatalf("%d called, %d stopped", called.Load(), stopped.Load())
		}
	}
}
