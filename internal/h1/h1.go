// Package h1 is an HTTP/1.1 client that needs no goroutine of its own. Start
// from Transport: an http.RoundTripper that writes the request and reads the
// reply in the caller's goroutine, over connections that are kept for the next
// request. docs/decisions/0001-upstream-client.md says why there is one.
//
// It is strict about where a reply ends, since a connection that is taken up
// again in the wrong place gives one caller's reply to another. It follows no
// redirect, adds no header but what HTTP/1.1 needs, decompresses nothing and
// speaks no HTTP/2; what it cannot do it hands to another RoundTripper.
package h1

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// A Transport keeps connections to the hosts that were asked. Its fields must
// not change once it is used. It is safe for concurrent use, but Read and Close
// of one reply's body must not be called at the same time.
type Transport struct {
	// Dial makes a connection; nil means net.Dialer's.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	TLS              *tls.Config   // nil means the defaults; the server name and the protocol are set here
	HandshakeTimeout time.Duration // of TLS; 0 means as long as the request may take
	IdleTimeout      time.Duration // how long a connection is kept unused; 0 means 90 s
	MaxIdle          int           // connections kept unused, a host; 0 means none
	MaxHeader        int           // bytes of a reply's status lines and headers; 0 means 1 MiB

	// Proxy names the proxy of a request, as in http.Transport; nil means that
	// there is none. It is asked once a host.
	Proxy func(*http.Request) (*url.URL, error)

	// Other takes the requests that must go through a proxy, and those to hosts
	// that do not speak HTTP/1.1 over TLS. nil means that these fail.
	Other http.RoundTripper

	mu    sync.Mutex
	hosts map[origin]*host
	sweep *time.Timer // looks through the idle connections; nil if there are none
}

const (
	defaultMaxHeader   = 1 << 20
	defaultIdleTimeout = 90 * time.Second
)

// A LostError says that a connection broke before a byte of the reply came.
type LostError struct {
	Err error

	// Race says that it was the keep-alive race: a server closes an idle
	// connection while a request is on its way. To ask again over a new
	// connection is safe then, as far as anybody can tell; but as the server
	// might have seen the request it is for the caller to do, and to count.
	Race bool
}

func (e *LostError) Error() string { return "h1: " + e.Err.Error() }
func (e *LostError) Unwrap() error { return e.Err }

// raceWindow is how soon after a request a connection must break for this to be
// the race. It shows within a round trip; a server that hangs up later has
// worked on the request.
const raceWindow = 2 * time.Second

// RoundTrip implements http.RoundTripper. A body that is a *Body is not used
// after RoundTrip has returned; any other is read whole before it is sent.
//
// A request of which not a byte could be written to a connection that was idle
// is sent over a new one. Further than that nothing is sent twice: see LostError.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	h, err := t.host(req)
	if err != nil {
		return nil, err
	}
	body, err := bodyOf(req)
	if err != nil {
		return nil, err
	}
	if h.other.Load() {
		return t.viaOther(req, body)
	}
	c := h.take()
	if c == nil {
		return t.dialed(h, req, body)
	}
	res, err := c.roundTrip(req, body)
	if errors.Is(err, errUnsent) {
		return t.dialed(h, req, body)
	}
	return res, err
}

// dialed makes a request over a new connection.
func (t *Transport) dialed(h *host, req *http.Request, body *Body) (*http.Response, error) {
	c, err := h.dial(req.Context())
	switch {
	case errors.Is(err, errNotHTTP1):
		h.other.Store(true)
		return t.viaOther(req, body)
	case err != nil:
		return nil, err
	}
	return c.roundTrip(req, body)
}

// viaOther hands a request to the other RoundTripper, with a body that may be
// read after RoundTrip has returned.
func (t *Transport) viaOther(req *http.Request, body *Body) (*http.Response, error) {
	if t.Other == nil {
		return nil, errors.New("h1: the host is behind a proxy or does not speak HTTP/1.1")
	}
	r := *req
	if body != nil {
		b := NewBody(body.join())
		r.Body, r.ContentLength = b, b.size
		r.GetBody = b.again
	}
	return t.Other.RoundTrip(&r)
}

// CloseIdleConnections closes the connections that no request uses, and those
// of Other.
func (t *Transport) CloseIdleConnections() {
	for _, h := range t.all() {
		h.closeIdle()
	}
	if o, ok := t.Other.(interface{ CloseIdleConnections() }); ok {
		o.CloseIdleConnections()
	}
}
