package gateway

import (
	"context"
	"sync"
)

// An ending is the context of an attempt: it ends with the client's request, or
// by itself with a cause, which is its Err. The contexts of the standard library
// would take seven allocations where this takes three: an attempt is watched by
// one function and by nobody's channel.
type ending struct {
	context.Context             // of the request
	undo            func() bool // forgets it

	mu    sync.Mutex
	err   error
	done  chan struct{} // nil as long as nobody asks for it
	after []*func()
	first [1]*func() // of after, mostly
}

func newEnding(of context.Context) *ending {
	e := &ending{Context: of}
	e.after = e.first[:0]
	e.undo = context.AfterFunc(of, func() { e.set(context.Cause(of)) })
	return e
}

// end ends the attempt; the first cause counts. Whoever began it ends it too, or
// something stays behind with the request.
func (e *ending) end(cause error) {
	e.undo()
	if first := context.Cause(e.Context); first != nil { // the request's was there before
		cause = first
	}
	if cause == nil {
		cause = context.Canceled
	}
	e.set(cause)
}

func (e *ending) set(cause error) {
	e.mu.Lock()
	if e.err != nil {
		e.mu.Unlock()
		return
	}
	e.err = cause
	if e.done != nil {
		close(e.done)
	}
	after := e.after
	e.after = nil
	e.mu.Unlock()
	for _, f := range after {
		(*f)()
	}
}

// Err implements context.Context, but is the cause itself.
func (e *ending) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return e.err
	}
	return context.Cause(e.Context)
}

// Value implements context.Context. Nothing of the client's request goes with
// the attempt; nor does context.Cause find its cause instead of this one's.
func (e *ending) Value(any) any { return nil }

// Done implements context.Context.
func (e *ending) Done() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.done == nil {
		e.done = make(chan struct{})
		if e.err != nil {
			close(e.done)
		}
	}
	return e.done
}

// AfterFunc calls f once the attempt has ended, in whatever goroutine ends it: f
// must not wait. It is what context.AfterFunc looks for.
func (e *ending) AfterFunc(f func()) (stop func() bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		go f()
		return func() bool { return false }
	}
	mine := &f
	e.after = append(e.after, mine)
	return func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		for i, g := range e.after {
			if g == mine {
				e.after[i] = e.after[len(e.after)-1]
				e.after = e.after[:len(e.after)-1]
				return true
			}
		}
		return false
	}
}
