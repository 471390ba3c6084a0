package h1

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// newSecure serves h over TLS, with these protocols by ALPN.
func newSecure(t *testing.T, h http.Handler, protos ...string) (*httptest.Server, *tls.Config) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = len(protos) > 0 && protos[0] == "h2"
	s.TLS = &tls.Config{NextProtos: protos}
	s.StartTLS()
	t.Cleanup(s.Close)
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return s, &tls.Config{RootCAs: pool}
}

func postTo(ctx context.Context, base, body string) *http.Request {
	u, _ := url.Parse(base + "/x")
	return (&http.Request{Method: "POST", URL: u, Header: http.Header{}, Body: NewBody([]byte(body[:len(body)/2]), []byte(body[len(body)/2:]))}).WithContext(ctx)
}

func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Proto", r.Proto)
	w.Header().Set("X-Peer", r.RemoteAddr)
	b, _ := io.ReadAll(r.Body)
	w.Write(b)
}

// TestTLS: HTTP/1.1 is asked for and spoken, and the connection used again.
func TestTLS(t *testing.T) {
	for _, protos := range [][]string{{"h2", "http/1.1"}, {"http/1.1"}, nil} {
		s, conf := newSecure(t, http.HandlerFunc(echo), protos...)
		tr := newTransport(t)
		tr.TLS, tr.HandshakeTimeout = conf, 5*time.Second
		peers := map[string]bool{}
		for _, size := range []int{10, 5000, 200000, 1 << 20, 3} {
			body := strings.Repeat("x", size)
			res, got, err := do(tr, postTo(context.Background(), s.URL, body))
			if err != nil || got != body || res.Header.Get("X-Proto") != "HTTP/1.1" {
				t.Fatalf("%v: %d bytes, error %v", protos, len(got), err)
			}
			peers[res.Header.Get("X-Peer")] = true
		}
		if len(peers) != 1 {
			t.Errorf("%v: %d connections", protos, len(peers))
		}
	}
}

// TestOther: what HTTP/1.1 cannot do goes to the other RoundTripper, from the
// first request on.
func TestOther(t *testing.T) {
	other := func(tr *Transport) *http.Transport {
		o := &http.Transport{TLSClientConfig: tr.TLS, ForceAttemptHTTP2: true, Proxy: tr.Proxy}
		tr.Other = o
		return o
	}
	s, conf := newSecure(t, http.HandlerFunc(echo), "h2")
	strict := s.TLS.Clone()
	strict.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) { // Go's server is lenient with HTTP/1.1 by itself
		c := s.TLS.Clone()
		if !slices.Contains(hello.SupportedProtos, "h2") {
			c.NextProtos = []string{"none-of-yours"}
		}
		return c, nil
	}
	s2 := tls.NewListener(listen(t), strict)
	t.Cleanup(func() { s2.Close() })
	go s.Config.Serve(s2)
	tr := newTransport(t)
	tr.TLS = conf
	base := "https://" + s2.Addr().String()
	if _, _, err := do(tr, postTo(context.Background(), base, "hi")); err == nil {
		t.Error("a server without HTTP/1.1 and nobody to turn to: no error")
	}
	other(tr)
	for range 2 {
		res, got, err := do(tr, postTo(context.Background(), base, "hello world"))
		if err != nil || got != "hello world" || res.Header.Get("X-Proto") != "HTTP/2.0" {
			t.Fatalf("%q, error %v", got, err)
		}
	}

	var asked int
	proxy := newPeer(t, func(_ int, c net.Conn, in *bufio.Reader) {
		if r, body, err := request(in); err == nil {
			text := r.RequestURI + " " + body
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}
	})
	tr = newTransport(t)
	tr.Proxy = func(*http.Request) (*url.URL, error) {
		asked++
		return &url.URL{Scheme: "http", Host: proxy.Addr().String()}, nil
	}
	if _, _, err := do(tr, postTo(context.Background(), "http://far.example", "hi")); err == nil {
		t.Error("a proxy and nobody who can use one: no error")
	}
	if asked != 1 {
		t.Errorf("the proxy was asked for %d times", asked)
	}
	other(tr)
	for range 2 {
		if _, got, err := do(tr, postTo(context.Background(), "http://far.example", "hi")); err != nil || got != "http://far.example/x hi" {
			t.Errorf("%q, error %v", got, err)
		}
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestTLSRefused: who is not who it should be gets no request.
func TestTLSRefused(t *testing.T) {
	served := false
	s, conf := newSecure(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served = true }))
	s.Config.ErrorLog = nil
	tr := newTransport(t)
	var unknown x509.UnknownAuthorityError
	if _, _, err := do(tr, postTo(context.Background(), s.URL, "hi")); !errors.As(err, &unknown) {
		t.Errorf("unknown authority: %v", err)
	}
	tr = newTransport(t)
	tr.TLS = conf
	var name x509.HostnameError
	if _, _, err := do(tr, postTo(context.Background(), strings.Replace(s.URL, "127.0.0.1", "localhost", 1), "hi")); !errors.As(err, &name) {
		t.Errorf("another name: %v", err)
	}
	if served {
		t.Error("a request was sent")
	}

	silent := newPeer(t, func(_ int, c net.Conn, in *bufio.Reader) { io.Copy(io.Discard, in) })
	tr = newTransport(t)
	tr.HandshakeTimeout = 50 * time.Millisecond
	var op *net.OpError
	if _, _, err := do(tr, postTo(context.Background(), "https://"+silent.Addr().String(), "hi")); !errors.As(err, &op) || op.Op != "dial" {
		t.Errorf("no handshake: %v", err)
	}
	cause := errors.New("had enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	stop := time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
	defer stop.Stop()
	tr.HandshakeTimeout = time.Minute
	if _, _, err := do(tr, postTo(ctx, "https://"+silent.Addr().String(), "hi")); !errors.Is(err, cause) {
		t.Errorf("canceled in the handshake: %v", err)
	}
	if _, _, err := do(tr, postTo(context.Background(), strings.Replace(s.URL, "https", "http", 1), "hi")); err != nil {
		t.Logf("plain HTTP to TLS: %v", err) // Go's server answers 400
	}
}

// TestTLSIdle: bytes that nobody asked for are found inside TLS, too, and a
// connection that was closed is not used.
func TestTLSIdle(t *testing.T) {
	s, conf := newSecure(t, nil)
	check := func(name string, after func(*tls.Conn), reply string) {
		t.Helper()
		p := newPeer(t, func(n int, c net.Conn, _ *bufio.Reader) {
			sc := tls.Server(c, &tls.Config{Certificates: s.TLS.Certificates})
			in := bufio.NewReader(sc)
			for {
				if _, _, err := request(in); err != nil {
					return
				}
				if n > 1 {
					io.WriteString(sc, hello)
					continue
				}
				io.WriteString(sc, reply)
				after(sc)
			}
		})
		tr := newTransport(t)
		tr.TLS = conf
		for range 3 {
			want(t, tr, postTo(context.Background(), "https://"+p.Addr().String(), "hi"))
			time.Sleep(30 * time.Millisecond)
		}
		if n := p.conns.Load(); n != 2 {
			t.Errorf("%s: %d connections, want 2", name, n)
		}
	}
	poison := "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
	check("closed", func(c *tls.Conn) { c.Close() }, hello)
	check("cut", func(c *tls.Conn) { c.NetConn().Close() }, hello)
	check("surplus in another record", func(c *tls.Conn) { io.WriteString(c, poison) }, hello)
	// In the same record, and beyond what the buffer takes at once.
	check("surplus in the same record", func(*tls.Conn) {}, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("y", bufferSize-45)+"\r\nContent-Length: 5\r\n\r\nhello"+poison)
	for pad := range 12 {
		check("surplus at the buffer's end", func(*tls.Conn) {}, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("y", bufferSize-54+pad)+"\r\nContent-Length: 5\r\n\r\nhello"+poison)
	}
}
