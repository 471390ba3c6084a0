package gateway

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sheepgate/sheepgate/internal/h1"
	"github.com/sheepgate/sheepgate/internal/llm"
)

// maxReply bounds a plain reply and an error body, in bytes after decompression.
const maxReply = 32 << 20

// Transport is the pooled HTTP client of upstream calls. It follows no
// redirect, adds no header and decompresses nothing by itself. HTTP/1.1 is
// spoken without a goroutine per request; net/http has what goes through a
// proxy, and servers that speak HTTP/2 alone.
func Transport(t Timeouts) *h1.Transport {
	t = t.withDefaults()
	dial := (&net.Dialer{Timeout: t.Connect, KeepAlive: 30 * time.Second}).DialContext
	sessions := &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(0)}
	return &h1.Transport{
		Dial: dial, TLS: sessions, HandshakeTimeout: t.Connect, IdleTimeout: idleConn, MaxIdle: maxIdleConns, MaxHeader: maxReplyHeader,
		Proxy: http.ProxyFromEnvironment,
		Other: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            dial,
			TLSHandshakeTimeout:    t.Connect,
			ForceAttemptHTTP2:      true,
			MaxIdleConns:           2 * maxIdleConns,
			MaxIdleConnsPerHost:    maxIdleConns,
			IdleConnTimeout:        idleConn,
			MaxResponseHeaderBytes: maxReplyHeader,
			DisableCompression:     true,
			WriteBufferSize:        8 << 10,
			ReadBufferSize:         8 << 10,
		},
	}
}

const (
	maxIdleConns   = 2048 // a host
	idleConn       = 90 * time.Second
	maxReplyHeader = 1 << 20 // bytes
)

// An address is where a request goes: a provider's base URL, and what the dialect
// appends to it.
type address struct{ base, path string }

// maxURLs bounds the URLs that are kept parsed: Gemini names the model in them.
const maxURLs = 256

// url is an address, parsed. It is shared and must not change.
func (g *Gateway) url(at address) (*url.URL, error) {
	old := g.urls.Load()
	if old != nil && (*old)[at] != nil {
		return (*old)[at], nil
	}
	u, err := url.Parse(strings.TrimSuffix(at.base, "/") + at.path)
	if err != nil || old != nil && len(*old) >= maxURLs {
		return u, err
	}
	now := map[address]*url.URL{at: u}
	if old != nil {
		maps.Copy(now, *old)
	}
	g.urls.CompareAndSwap(old, &now) // if that fails it is parsed again next time
	return u, nil
}

// upstreamBody reads a reply's body and measures how long it waited.
type upstreamBody struct {
	r      io.Reader
	waited time.Duration
}

func (b *upstreamBody) Read(p []byte) (int, error) {
	t := time.Now()
	n, err := b.r.Read(p)
	b.waited += time.Since(t)
	return n, err
}

// Wait returns when there is something to read, or at once where that cannot be
// told without reading.
func (b *upstreamBody) Wait() {
	if w, ok := b.r.(interface{ Wait() }); ok {
		t := time.Now()
		w.Wait()
		b.waited += time.Since(t)
	}
}

// A gunzip undoes gzip and refuses a bomb. Chunks of a stream that are all
// alike come to about 100 times their compressed size, a run of one byte to 1,030
// times.
type gunzip struct {
	z       *gzip.Reader
	in, out int64
	from    io.Reader
}

const (
	maxRatio  = 200
	freeBytes = 4 << 20 // not looked at
)

var errBomb = errors.New("the answer is a decompression bomb")

func newGunzip(r io.Reader) (*gunzip, error) {
	g := &gunzip{from: r}
	z, err := gzip.NewReader(counted{g})
	g.z = z
	return g, err
}

type counted struct{ g *gunzip }

func (c counted) Read(p []byte) (int, error) {
	n, err := c.g.from.Read(p)
	c.g.in += int64(n)
	return n, err
}

func (g *gunzip) Read(p []byte) (int, error) {
	n, err := g.z.Read(p)
	g.out += int64(n)
	if g.out > freeBytes && g.out > maxRatio*g.in {
		return 0, errBomb
	}
	return n, err
}

// decoded undoes a content encoding that nobody asked for.
func decoded(res *http.Response) (io.Reader, error) {
	switch strings.ToLower(res.Header.Get("Content-Encoding")) {
	case "", "identity":
		return res.Body, nil
	case "gzip", "x-gzip":
		return newGunzip(res.Body)
	}
	return nil, errors.New("content encoding " + res.Header.Get("Content-Encoding"))
}

// The causes that a watchdog gives when it ends an attempt.
var (
	errFirstToken = errors.New("no token within timeouts.first_token")
	errIdle       = errors.New("the stream stood still for timeouts.idle")
	errTotal      = errors.New("no complete answer within timeouts.total")
)

// ErrShutdown is the cause with which the contexts of requests are ended that
// outlive the drain.
var ErrShutdown = errors.New("the gateway is shutting down")

func shuttingDown() *llm.Error {
	return &llm.Error{Class: llm.Overloaded, Code: "shutting_down", RetryAfter: time.Second, Final: true, Msg: ErrShutdown.Error() + "; try again"}
}

// timeoutCode tells the timeouts apart; "" if cause is none of them.
func timeoutCode(cause error) string {
	switch {
	case errors.Is(cause, errFirstToken):
		return "ttft_timeout"
	case errors.Is(cause, errIdle):
		return "idle_timeout"
	case errors.Is(cause, errTotal):
		return "total_timeout"
	}
	return ""
}

// isMalformed and isOversized tell what was wrong with an answer's head: of
// net/http, for want of types, from its words.
func isMalformed(err error) bool {
	var protocol *h1.ProtocolError
	return errors.As(err, &protocol) || strings.Contains(err.Error(), "malformed ")
}
func isOversized(err error) bool {
	return errors.Is(err, h1.ErrLongHead) || strings.Contains(err.Error(), "server response headers exceeded")
}

// transportError says what a failed round trip or read means.
func transportError(ctx context.Context, name string, err error) *llm.Error {
	if cause := context.Cause(ctx); cause != nil {
		if errors.Is(cause, ErrShutdown) {
			return shuttingDown()
		}
		if code := timeoutCode(cause); code != "" {
			return &llm.Error{Class: llm.Timeout, Code: code, Msg: name + ": " + cause.Error(), Err: err}
		}
		return &llm.Error{Class: llm.Canceled, Msg: "the client closed the request", Err: cause}
	}
	var op *net.OpError
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return &llm.Error{Class: llm.Connect, Code: "dns", Final: true, Msg: name + ": the host name cannot be resolved", Err: bare(err)}
	case errors.As(err, &op) && op.Op == "dial" && op.Timeout(), strings.Contains(err.Error(), "TLS handshake timeout"):
		return &llm.Error{Class: llm.Connect, Code: "connect_timeout", Msg: name + ": no connection within timeouts.connect", Err: bare(err)}
	case errors.As(err, &op) && op.Op == "dial":
		return &llm.Error{Class: llm.Connect, Code: "connect", Msg: name + ": cannot connect", Err: bare(err)}
	case isTLS(err):
		return &llm.Error{Class: llm.Connect, Code: "tls", Final: true, Msg: name + ": the TLS certificate is not valid for the host", Err: bare(err)}
	case errors.Is(err, errBomb):
		return &llm.Error{Class: llm.BadUpstream, Code: "decompression_bomb", Final: true, Msg: name + ": " + err.Error()}
	case isOversized(err):
		return &llm.Error{Class: llm.BadUpstream, Code: "headers_too_large", Final: true, Msg: name + ": the answer's headers are larger than 1 MiB", Err: bare(err)}
	case isMalformed(err):
		return &llm.Error{Class: llm.BadUpstream, Code: "malformed_http", Msg: name + ": the answer is not HTTP", Err: bare(err)}
	}
	return &llm.Error{Class: llm.UpstreamError, Code: "connection_lost", Msg: name + ": the connection broke before a complete answer", Err: bare(err)}
}

// bare drops the URL that net/http puts around an error: it may hold a key.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
