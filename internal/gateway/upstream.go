package gateway

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// maxReply bounds a plain reply and an error body, in bytes after decompression.
const maxReply = 32 << 20

// Transport is the pooled HTTP client of upstream calls. It follows no
// redirect, adds no header and decompresses nothing by itself.
func Transport(t Timeouts) *http.Transport {
	t = t.withDefaults()
	d := &net.Dialer{Timeout: t.Connect, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            d.DialContext,
		TLSHandshakeTimeout:    t.Connect,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           4096,
		MaxIdleConnsPerHost:    2048,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 1 << 20,
		DisableCompression:     true,
		WriteBufferSize:        8 << 10,
		ReadBufferSize:         8 << 10,
	}
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

// decoded undoes a content encoding that nobody asked for.
func decoded(res *http.Response) (io.Reader, error) {
	switch res.Header.Get("Content-Encoding") {
	case "", "identity":
		return res.Body, nil
	case "gzip":
		return gzip.NewReader(res.Body)
	}
	return nil, errors.New("content encoding " + res.Header.Get("Content-Encoding"))
}

// The causes that a watchdog gives when it ends an attempt.
var (
	errFirstToken = errors.New("no token within timeouts.first_token")
	errIdle       = errors.New("the stream stood still for timeouts.idle")
	errTotal      = errors.New("no complete answer within timeouts.total")
)

// transportError says what a failed round trip or read means.
func transportError(ctx context.Context, name string, err error) *llm.Error {
	if cause := context.Cause(ctx); cause != nil {
		if errors.Is(cause, errFirstToken) || errors.Is(cause, errIdle) || errors.Is(cause, errTotal) {
			return &llm.Error{Class: llm.Timeout, Code: "upstream_timeout", Msg: name + ": " + cause.Error(), Err: err}
		}
		return &llm.Error{Class: llm.Canceled, Msg: "the client closed the request", Err: cause}
	}
	var op *net.OpError
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return &llm.Error{Class: llm.Connect, Code: "dns", Msg: name + ": the host name cannot be resolved", Err: bare(err)}
	case errors.As(err, &op) && op.Op == "dial":
		return &llm.Error{Class: llm.Connect, Code: "connect", Msg: name + ": cannot connect", Err: bare(err)}
	case isTLS(err):
		return &llm.Error{Class: llm.Connect, Code: "tls", Msg: name + ": the TLS certificate is not valid for the host", Err: bare(err)}
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
