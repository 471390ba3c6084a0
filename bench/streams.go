package main

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// streams runs many streams at once and counts the cost of their events. The
// cost of beginning and ending a stream is part of it, spread over its events.
func streams(ctx context.Context, s *subject, p plan) error {
	request := s.request(1900, fmt.Sprintf(`,"max_tokens":%d,"seed":%d,"stream":true`, p.events, p.pace.Milliseconds()))
	before := s.proc.cpu()
	if err := s.together(ctx, p.streams, request, p.events, nil); err != nil {
		return err
	}
	time.Sleep(150 * time.Millisecond)
	s.streams.cpu += s.proc.cpu() - before
	return nil
}

// hold opens streams that last until all of them have begun, and a little
// longer, and reads the memory while they are open.
func hold(ctx context.Context, s *subject, p plan) error {
	const events, pace = 6, 1500 // ms
	request := s.request(1900, fmt.Sprintf(`,"max_tokens":%d,"seed":%d,"stream":true`, events, pace))
	return s.together(ctx, p.open, request, events, func() { s.open = s.proc.rss() })
}

// together runs n streams at once; each must be whole. begun, if not nil, is
// called once every stream has had its first event.
func (s *subject) together(ctx context.Context, n int, request []byte, events int, begun func()) error {
	conns, err := s.dial(n)
	if err != nil {
		return err
	}
	var (
		wg      sync.WaitGroup
		whole   atomic.Int64
		waiting atomic.Int64
		all     = make(chan struct{})
	)
	waiting.Store(int64(n))
	for i, c := range conns {
		wg.Go(func() {
			defer c.Close()
			first := sync.OnceFunc(func() {
				if waiting.Add(-1) == 0 {
					close(all)
				}
			})
			defer first()
			time.Sleep(time.Duration(i) * 500 * time.Microsecond) // not all in one instant
			if c.stream(request, events, first) == nil {
				whole.Add(1)
			}
		})
	}
	if begun != nil {
		select {
		case <-all:
			begun()
		case <-ctx.Done():
		}
	}
	wg.Wait()
	s.streams.answers += int(whole.Load())
	s.streams.bad += n - int(whole.Load())
	if begun == nil {
		s.streams.events += events * int(whole.Load())
	}
	return ctx.Err()
}

// stream sends a request and reads events until the stream's end.
func (c *conn) stream(request []byte, want int, first func()) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	status, _, err := c.head()
	if err != nil {
		return err
	}
	if status != 200 {
		return fmt.Errorf("status %d", status)
	}
	events, tail := 0, []byte(nil) // tail is what has come of an event that is not whole
	done := false
	err = c.chunks(func(b []byte) {
		tail = append(tail, b...)
		for {
			event, rest, ok := bytes.Cut(tail, []byte("\n\n"))
			if !ok {
				break
			}
			switch {
			case bytes.Contains(event, []byte(`"content":" sheep"`)):
				events++
				first()
			case bytes.Equal(event, []byte("data: [DONE]")):
				done = true
			}
			tail = append(tail[:0], rest...)
		}
	})
	switch {
	case err != nil:
		return err
	case !done || events != want || len(tail) > 0:
		return fmt.Errorf("stream of %d events, %d wanted, end seen: %v", events, want, done)
	}
	return nil
}
