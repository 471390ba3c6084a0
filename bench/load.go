package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// request is a whole HTTP request with a prompt of about size bytes.
func (s *subject) request(size int, tail string) []byte {
	const text = "Counting sheep is a task that takes its time, one after another. "
	prompt := strings.Repeat(text, 1+size/len(text))[:size]
	body := fmt.Sprintf(`{"model":"bench/gpt-4.1","messages":[{"role":"system","content":"You count sheep."},{"role":"user","content":"%s"}]%s}`, prompt, tail)
	return fmt.Appendf(nil, "POST /v1/chat/completions HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nUser-Agent: bench\r\nContent-Length: %d\r\n\r\n%s",
		s.addr, s.key, len(body), body)
}

func small(ctx context.Context, s *subject, p plan) error {
	return s.load(ctx, &s.small, s.request(1900, `,"temperature":0.2`), p.rate, p.round)
}

func large(ctx context.Context, s *subject, p plan) error {
	return s.load(ctx, &s.large, s.request(100_000, `,"temperature":0.2`), p.largeRate, p.round)
}

// workers is how many connections carry the load.
const workers = 64

// load sends requests at a constant rate, whether or not answers come in time:
// the latency of each counts from when it was due, so that a stall is seen by
// every request that it held up.
func (s *subject) load(ctx context.Context, into *sample, request []byte, rate float64, length time.Duration) error {
	total := int(rate * length.Seconds())
	due := make(chan time.Time, total)
	conns, err := s.dial(workers)
	if err != nil {
		return err
	}
	var (
		wg sync.WaitGroup
		mu sync.Mutex // guards into
	)
	before := s.proc.cpu()
	for _, c := range conns {
		wg.Go(func() {
			defer func() { c.Close() }()
			answers, bad := 0, 0
			var latencies []time.Duration
			for at := range due {
				if err := c.plain(request); err != nil {
					bad++
					c.Close()
					if c, err = dialOne(s.addr); err != nil {
						break
					}
					continue
				}
				answers++
				latencies = append(latencies, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			into.answers += answers
			into.bad += bad
			into.latencies = append(into.latencies, latencies...)
		})
	}
	start := time.Now()
	for i := range total {
		at := start.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		if wait := time.Until(at); wait > 0 {
			time.Sleep(wait)
		}
		if ctx.Err() != nil {
			break
		}
		due <- at
	}
	close(due)
	wg.Wait()
	time.Sleep(150 * time.Millisecond) // what is done after the answer counts, too
	into.cpu += s.proc.cpu() - before
	return ctx.Err()
}

// A conn is a connection of the load generator.
type conn struct {
	net.Conn
	br   *bufio.Reader
	body []byte
}

func dialOne(addr string) (*conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return &conn{Conn: nobody{}}, err
	}
	return &conn{Conn: c, br: bufio.NewReaderSize(c, 4096)}, nil
}

// nobody is a connection that was never made.
type nobody struct{ net.Conn }

func (nobody) Close() error { return nil }

func (s *subject) dial(n int) ([]*conn, error) {
	var cs []*conn
	for range n {
		c, err := dialOne(s.addr)
		if err != nil {
			return nil, err
		}
		cs = append(cs, c)
	}
	return cs, nil
}

var quoted = []byte(strconv.Quote(content))

// plain sends a request and reads its answer, which must be whole.
func (c *conn) plain(request []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	status, length, err := c.head()
	if err != nil {
		return err
	}
	c.body = c.body[:0]
	if length >= 0 {
		if cap(c.body) < length {
			c.body = make([]byte, length)
		}
		c.body = c.body[:length]
		_, err = io.ReadFull(c.br, c.body)
	} else {
		err = c.chunks(func(b []byte) { c.body = append(c.body, b...) })
	}
	if err != nil {
		return err
	}
	if status != 200 || !bytes.Contains(c.body, quoted) || !bytes.Contains(c.body, []byte(`"total_tokens":600`)) || c.body[len(c.body)-1] != '}' {
		return fmt.Errorf("status %d: %.200s", status, c.body)
	}
	return nil
}

// head reads a status line and headers. length is -1 for a chunked body.
func (c *conn) head() (status, length int, err error) {
	length = -1
	for first := true; ; first = false {
		line, err := c.br.ReadSlice('\n')
		if err != nil {
			return 0, 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if first {
			if len(line) < 12 {
				return 0, 0, errors.New("short status line")
			}
			status, err = strconv.Atoi(string(line[9:12]))
			if err != nil {
				return 0, 0, err
			}
			continue
		}
		if len(line) == 0 {
			return status, length, nil
		}
		if name, value, _ := bytes.Cut(line, []byte{':'}); bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, 0, err
			}
		}
	}
}

// chunks reads a chunked body to its end. got may be called with part of a chunk.
func (c *conn) chunks(got func([]byte)) error {
	for {
		line, err := c.br.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 31)
		if err != nil {
			return err
		}
		for left := int(size); left > 0; {
			if _, err := c.br.Peek(1); err != nil {
				return err
			}
			b, _ := c.br.Peek(min(left, c.br.Buffered()))
			got(b)
			left -= len(b)
			_, _ = c.br.Discard(len(b)) // just peeked
		}
		if _, err := c.br.Discard(2); err != nil {
			return err
		}
		if size == 0 {
			return nil
		}
	}
}
