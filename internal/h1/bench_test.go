//go:build unix

package h1

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const serveEnv = "H1_BENCH_SERVE"

// TestMain serves the benchmarks in a process of its own, so that what they
// measure is the client's.
func TestMain(m *testing.M) {
	if os.Getenv(serveEnv) == "" {
		goleak.VerifyTestMain(m)
		return
	}
	reply := []byte(strings.Repeat("All of the answer must arrive. ", 42)) // 1.3 KB
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Write(reply)
	})
	plain, secure := httptest.NewServer(h), httptest.NewUnstartedServer(h)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	fmt.Println(plain.URL, secure.URL, base64.StdEncoding.EncodeToString(secure.Certificate().Raw))
	io.Copy(io.Discard, os.Stdin) // until the benchmark ends
}

// BenchmarkTransport compares clients: 2 KB sent, 1.3 KB read, 16 at once. The
// CPU is that of this process, the client's.
func BenchmarkTransport(b *testing.B) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveEnv+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(line)
	raw, _ := base64.StdEncoding.DecodeString(f[2])
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		b.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	conf := &tls.Config{RootCAs: pool}

	lean := &Transport{TLS: conf, MaxIdle: 100, Proxy: http.ProxyFromEnvironment}
	std := func(h2 bool) *http.Transport {
		return &http.Transport{TLSClientConfig: conf.Clone(), MaxIdleConnsPerHost: 100, ForceAttemptHTTP2: h2, DisableCompression: true}
	}
	body := []byte(strings.Repeat("x", 2000))
	for _, c := range []struct {
		name, url string
		rt        http.RoundTripper
	}{
		{"tcp/h1", f[0], lean}, {"tcp/net-http", f[0], std(false)},
		{"tls/h1", f[1], lean}, {"tls/net-http", f[1], std(false)}, {"tls/net-http-2", f[1], std(true)},
	} {
		b.Run(c.name, func(b *testing.B) {
			u, _ := url.Parse(c.url + "/v1/chat/completions")
			b.ReportAllocs()
			b.SetParallelism(8)
			before := cpu()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					ctx, cancel := context.WithCancel(context.Background())
					r := (&http.Request{Method: "POST", URL: u, Host: u.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(body)), Body: NewBody(body),
						Header: http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer x"}, "User-Agent": {"x"}}}).WithContext(ctx)
					if _, text, err := do(c.rt, r); err != nil || len(text) < 1000 {
						b.Errorf("%d bytes, error %v", len(text), err)
					}
					cancel()
				}
			})
			b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-µs/op")
			c.rt.(interface{ CloseIdleConnections() }).CloseIdleConnections()
		})
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
