package h1

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sheepgate/sheepgate/internal/socket"
)

// An origin is whom a connection goes to.
type origin struct{ scheme, host string }

// A host keeps the idle connections to one origin.
type host struct {
	t     *Transport
	addr  string // host:port
	name  string // the Host header
	tls   *tls.Config
	other atomic.Bool // not for us: a proxy, or no HTTP/1.1

	mu   sync.Mutex
	idle []*conn // the one that was used last at the end
}

// host finds or makes the entry of a request's origin.
func (t *Transport) host(req *http.Request) (*host, error) {
	u := req.URL
	if u == nil || u.Host == "" {
		return nil, errors.New("h1: the request names no host")
	}
	o := origin{u.Scheme, u.Host}
	t.mu.Lock()
	h := t.hosts[o]
	t.mu.Unlock()
	if h != nil {
		return h, nil
	}
	port := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	if port == "" {
		return nil, fmt.Errorf("h1: scheme %q is neither http nor https", u.Scheme)
	}
	if p := u.Port(); p != "" {
		port = p
	}
	if !validHost(u.Host) {
		return nil, errors.New("h1: the host name holds a byte that none may")
	}
	h = &host{t: t, addr: net.JoinHostPort(u.Hostname(), port), name: u.Host}
	if u.Scheme == "https" {
		if h.tls = t.TLS.Clone(); h.tls == nil {
			h.tls = &tls.Config{}
		}
		if h.tls.ServerName == "" {
			h.tls.ServerName = u.Hostname()
		}
		h.tls.NextProtos = []string{"http/1.1"}
	}
	if t.Proxy != nil {
		p, err := t.Proxy(req)
		if err != nil {
			return nil, fmt.Errorf("h1: proxy: %w", err)
		}
		h.other.Store(p != nil)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if was := t.hosts[o]; was != nil {
		return was, nil
	}
	if t.hosts == nil {
		t.hosts = map[origin]*host{}
	}
	t.hosts[o] = h
	return h, nil
}

func validHost(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"/<>?@\^{|}`, r) }) < 0
}

func (t *Transport) all() []*host {
	t.mu.Lock()
	defer t.mu.Unlock()
	hosts := make([]*host, 0, len(t.hosts))
	for _, h := range t.hosts {
		hosts = append(hosts, h)
	}
	return hosts
}

// take gives the connection that was idle for the shortest time and is still
// open and silent, or nil.
func (h *host) take() *conn {
	for {
		h.mu.Lock()
		n := len(h.idle) - 1
		if n < 0 {
			h.mu.Unlock()
			return nil
		}
		c := h.idle[n]
		h.idle[n] = nil
		h.idle = h.idle[:n]
		h.mu.Unlock()
		if time.Since(c.idleSince) < h.t.idleTimeout() && c.alive() {
			return c
		}
		c.close()
	}
}

// put keeps c for the next request.
func (h *host) put(c *conn) {
	c.reused, c.idleSince = true, time.Now()
	h.mu.Lock()
	full := len(h.idle) >= h.t.MaxIdle
	if !full {
		h.idle = append(h.idle, c)
	}
	first := len(h.idle) == 1
	h.mu.Unlock()
	if full {
		c.close()
		return
	}
	if first {
		h.t.sweepSoon()
	}
}

// closeIdle closes all idle connections.
func (h *host) closeIdle() {
	h.mu.Lock()
	idle := h.idle
	h.idle = nil
	h.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}

// sweepBatch is how many idle connections are looked at while nobody can take
// one: about 50 µs.
const sweepBatch = 32

// sweep closes the idle connections that are too old, closed by the server or
// not silent, from those that were used longest ago on. It returns how many are
// left.
func (h *host) sweep() (left int) {
	for at := 0; ; {
		h.mu.Lock()
		at = min(at, len(h.idle)) // some have been taken
		end := min(at+sweepBatch, len(h.idle))
		kept := at
		for _, c := range h.idle[at:end] {
			if time.Since(c.idleSince) >= h.t.idleTimeout() || !c.alive() {
				c.close()
				continue
			}
			h.idle[kept] = c
			kept++
		}
		h.idle = slices.Delete(h.idle, kept, end)
		at, left = kept, len(h.idle)
		h.mu.Unlock()
		if at == left {
			return left
		}
	}
}

func (t *Transport) idleTimeout() time.Duration {
	if t.IdleTimeout > 0 {
		return t.IdleTimeout
	}
	return defaultIdleTimeout
}

// sweepSoon sees to it that idle connections are looked through soon.
func (t *Transport) sweepSoon() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sweep == nil {
		t.sweep = time.AfterFunc(min(sweepEvery, t.idleTimeout()/2), t.sweepNow)
	}
}

// sweepEvery is how soon a connection that a server has closed is closed here.
const sweepEvery = 2 * time.Second

func (t *Transport) sweepNow() {
	t.mu.Lock()
	t.sweep = nil // who puts a connection back from here on asks for the next sweep
	t.mu.Unlock()
	left := 0
	for _, h := range t.all() {
		left += h.sweep()
	}
	if left > 0 {
		t.sweepSoon()
	}
}

var errNotHTTP1 = errors.New("h1: the server does not speak HTTP/1.1")

// noHTTP1 reports whether a handshake failed because the server does not speak
// HTTP/1.1. The alert's type is not exported.
func noHTTP1(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" && op.Err.Error() == "tls: no application protocol"
}

// dial makes a connection.
func (h *host) dial(ctx context.Context) (*conn, error) {
	dial := h.t.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	nc, err := dial(ctx, "tcp", h.addr)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return nil, cause
	}
	if err != nil {
		return nil, err
	}
	nc = socket.New(nc)
	c := newConn(h, nc)
	if h.tls == nil {
		return c, nil
	}
	if d := h.t.HandshakeTimeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, errHandshake)
		defer cancel()
	}
	s := tls.Client(nc, h.tls)
	if err := s.HandshakeContext(ctx); err != nil {
		nc.Close()
		switch cause := context.Cause(ctx); {
		case noHTTP1(err) && h.t.Other != nil:
			return nil, errNotHTTP1
		case errors.Is(cause, errHandshake):
			return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: nc.RemoteAddr(), Err: cause}
		case cause != nil:
			return nil, cause
		}
		return nil, err
	}
	c.nc, c.many, c.tls = s, s, s
	return c, nil
}

var errHandshake error = handshakeTimeout{}

// handshakeTimeout makes the net.OpError around it a timeout.
type handshakeTimeout struct{}

func (handshakeTimeout) Error() string { return "h1: no TLS handshake in time" }
func (handshakeTimeout) Timeout() bool { return true }
