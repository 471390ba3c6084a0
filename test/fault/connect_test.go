package fault

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/test/fault/upstream"
)

// blackHole is an address that takes no connection and refuses none: a socket
// whose queue is full.
func blackHole(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for range 8 {
		c, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Skip("the queue of a socket does not fill up here")
	return ""
}

// An authority signs certificates that the gateway is told to trust.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, file: filepath.Join(t.TempDir(), "ca.pem")}
	a.cert = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fault"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// serve answers over TLS with a certificate for an address, until a time.
func (a *authority) serve(t *testing.T, ip string, until time.Time, signed bool) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: until.Add(-24 * time.Hour), NotAfter: until, IPAddresses: []net.IP{net.ParseIP(ip)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	parent, by := a.cert, a.key
	if !signed {
		parent, by = leaf, key
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"id":"x","object":"chat.completion","model":"ok","choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}`, upstream.Text)
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

// TestConnect: what can go wrong before there is a connection is told apart,
// and ends in its time.
func TestConnect(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	day := 24 * time.Hour
	targets := []struct {
		name, url string
		code      string
		attempts  int
		most      time.Duration
	}{
		{"refused", "http://127.0.0.1:1", "connect", 3, 3 * time.Second},
		{"black-hole", "http://" + blackHole(t), "connect_timeout", 3, 6 * time.Second},
		{"no-name", "http://nowhere.invalid", "dns", 1, 5 * time.Second},
		{"expired", ca.serve(t, "127.0.0.1", time.Now().Add(-day), true), "tls", 1, 3 * time.Second},
		{"wrong-host", ca.serve(t, "192.0.2.1", time.Now().Add(day), true), "tls", 1, 3 * time.Second},
		{"unknown-authority", ca.serve(t, "127.0.0.1", time.Now().Add(day), false), "tls", 1, 3 * time.Second},
		{"tls-black-hole", "https://" + silent(t), "connect_timeout", 3, 6 * time.Second},
		{"not-tls", strings.Replace(ca.serve(t, "127.0.0.1", time.Now().Add(day), true), "https", "http", 1), "", 1, 3 * time.Second}, // TLS is spoken, HTTP was expected
		{"sound", ca.serve(t, "127.0.0.1", time.Now().Add(day), true), "", 1, 3 * time.Second},
	}
	yaml := "providers:\n"
	for _, to := range targets {
		yaml += fmt.Sprintf("  %s: { type: openai, base_url: %s, key: %s }\n", to.name, to.url, providerKeys["openai"])
	}
	g := serve(t, yaml+"timeouts: { connect: 1s, total: 30s }\n", "SSL_CERT_FILE="+ca.file)
	var wg sync.WaitGroup
	for _, to := range targets {
		for _, stream := range []bool{false, true} {
			wg.Go(func() {
				c := client{"openai", false}
				a := c.ask(c.request(g.url, to.name+"/ok", to.name, stream), stream)
				if a.header == nil {
					t.Errorf("%s: %v", to.name, a.err)
					return
				}
				k, raw := g.call(t, a.header.Get("Sheepgate-Call-Id"))
				if s := leaks(a.body + raw); s != "" {
					t.Errorf("%s: %s", to.name, s)
				}
				switch {
				case to.name == "sound":
					if !stream && (a.status != 200 || a.text != upstream.Text) || stream && k.Error.Code != "not_a_stream" {
						t.Errorf("%s: %d %s", to.name, a.status, a.body)
					}
				case to.name == "not-tls":
					if a.status != 502 && a.status != 400 { // the server says in plain words that it speaks TLS
						t.Errorf("%s: %d %s", to.name, a.status, a.body)
					}
				case a.status != 502 || k.Error.Class != llm.Connect || k.Error.Code != to.code || len(k.Attempts) != to.attempts || c.checkFailure(a.failure, 502) != "":
					t.Errorf("%s: %d %s, %+v, %d attempts", to.name, a.status, a.body, k.Error, len(k.Attempts))
				case k.Usage.Source != llm.UsageNone || k.Cost != 0:
					t.Errorf("%s: usage %+v of nothing", to.name, k.Usage)
				}
				if a.took > to.most {
					t.Errorf("%s: took %v", to.name, a.took)
				}
			})
		}
	}
	wg.Wait()
}

// silent is a server that takes connections and says nothing.
func silent(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
		}
	}()
	return ln.Addr().String()
}

// TestFallback: the next target of an alias answers for one that fails before
// its first byte, whatever the failure, and never for one that fails after it.
func TestFallback(t *testing.T) {
	t.Parallel()
	up := startUpstream(t)
	yaml := providers(up) + "  gone: { type: openai, base_url: http://127.0.0.1:1, key: sk-gone-0123456789 }\ntimeouts: { first_token: 1s, idle: 1s, total: 20s }\nmodels:\n"
	fall := []string{"429-always", "429-day", "500-always", "503-always", "401-echo", "403-echo", "302", "200-error", "200-html", "200-empty", "half-json", "big-error",
		"bad-chunks", "big-headers", "gzip-bomb", "deep-json", "reset-first", "close-first", "not-http"}
	fallStream := []string{"header-hang", "ttft-hang", "first-error", "empty-stream", "only-end", "at-once-end"}
	stay := []string{"400", "404", "422"}
	stayStream := []string{"mid-reset", "mid-end", "mid-error", "mid-stall", "sse-badjson"}
	for _, list := range [][]string{fall, fallStream, stay, stayStream} {
		for _, f := range list {
			yaml += fmt.Sprintf("  alias-%s: { use: [up-openai/%s, up-anthropic/ok] }\n", f, f)
		}
	}
	g := serve(t, yaml+"  alias-gone: { use: [gone/ok, up-anthropic/ok] }\n")
	lost := map[string]bool{"reset-first": true, "close-first": true} // an old connection that breaks is replaced by a new one at once
	// Who has just said no to one request is passed over by the next one.
	noted := map[string]bool{"429-always": true, "429-day": true, "401-echo": true, "403-echo": true}
	var passed atomic.Int64
	var wg sync.WaitGroup
	slots := make(chan bool, 8)
	try := func(fault string, stream, falls bool) {
		wg.Go(func() {
			slots <- true
			defer func() { <-slots }()
			c, name := client{"openai", false}, fmt.Sprintf("fallback-%s-%t", fault, stream)
			a := c.ask(c.request(g.url, "alias-"+fault, name, stream), stream)
			if a.header == nil {
				t.Errorf("%s: %v", name, a.err)
				return
			}
			k, raw := g.call(t, a.header.Get("Sheepgate-Call-Id"))
			if s := leaks(a.body + raw); s != "" {
				t.Errorf("%s: %s", name, s)
			}
			if k.ModelRequested != "alias-"+fault {
				t.Errorf("%s: model %q", name, k.ModelRequested)
			}
			arrived := up.Entry(name).Attempts()
			if !falls {
				if len(arrived) != 1 || len(k.Attempts) != 1 || k.Provider != "up-openai" || a.failure == "" {
					t.Errorf("%s: %d attempts arrived, %d in the Call, by %s: %.200s", name, len(arrived), len(k.Attempts), k.Provider, a.body)
				}
				return
			}
			asked := 2
			if noted[fault] && len(k.Attempts) == 1 {
				asked = 1
				passed.Add(1)
			}
			if a.status != 200 || a.text != upstream.Text || !a.ended || k.Provider != "up-anthropic" || k.Model != "ok" || len(k.Attempts) != asked && !(len(k.Attempts) == 3 && lost[fault]) || k.Usage.Source != exact {
				t.Errorf("%s: %d, by %s/%s after %d attempts, usage %+v: %.300s", name, a.status, k.Provider, k.Model, len(k.Attempts), k.Usage, a.body)
			}
		})
	}
	for _, f := range append(fall, "gone") {
		try(f, false, true)
		try(f, true, true)
	}
	for _, f := range fallStream {
		try(f, true, true)
	}
	for _, f := range stay {
		try(f, false, false)
		try(f, true, false)
	}
	for _, f := range stayStream {
		try(f, true, false)
	}
	wg.Wait()
	if n := g.metrics(t).sum("holysheep_fallbacks_total"); int(n) != 2*len(fall)+2+len(fallStream)-int(passed.Load()) || passed.Load() > 4 {
		t.Errorf("holysheep_fallbacks_total is %v", n)
	}
}
