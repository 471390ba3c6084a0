package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// A subject is one way to the upstream, and what was measured of it.
type subject struct {
	name string
	addr string
	proc *proc // nil for the direct way
	key  string

	small, large, streams sample
	rest, peak, open      float64 // MiB
}

// A sample sums the rounds of one kind.
type sample struct {
	cpu       time.Duration
	answers   int // whole, as the client saw them
	bad       int // refused, wrong or broken
	events    int
	latencies []time.Duration
}

const benchKey, adminKey = "bench-key-of-this-run-only", "bench-admin-of-this-run-only"

// unlimited is the subject without limits.
const unlimited = "no limits"

// built is the binary to measure: the one that was named, or a new one in dir.
func (p *plan) built(ctx context.Context, dir string) (string, error) {
	if p.binary != "" {
		return p.binary, nil
	}
	binary := filepath.Join(dir, "sheepgate-built")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "./cmd/sheepgate")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/sheepgate: %w: %s", err, out)
	}
	p.binary = binary
	return binary, nil
}

// startSubjects starts what is there. What is not is left out, with a line.
func startSubjects(ctx context.Context, dir, upstream string, p plan) []*subject {
	subjects := []*subject{{name: "direct", addr: upstream}}
	for _, s := range []struct {
		name  string
		start func(ctx context.Context, dir, upstream string, p *plan) (*proc, error)
	}{
		{"nginx", startNginx}, {"reverseproxy", startReverseProxy}, {"sheepgate", startSheepgate}, {unlimited, startUnlimited},
	} {
		if p.only != "" && p.only != s.name {
			continue
		}
		pr, err := s.start(ctx, dir, upstream, &p)
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s is left out: %v\n", s.name, err)
			continue
		}
		subjects = append(subjects, &subject{name: s.name, addr: pr.addr, proc: pr, key: benchKey})
	}
	return subjects
}

func startReverseProxy(_ context.Context, _, upstream string, _ *plan) (*proc, error) {
	return startSelf("reverseproxy", "-upstream", upstream)
}

// serveReverseProxy is the standard library's proxy with nothing added but
// enough idle connections.
func serveReverseProxy(ctx context.Context, upstream string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: upstream})
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 4096, DisableCompression: true}
	proxy.FlushInterval = -1
	proxy.ErrorLog = log.New(io.Discard, "", 0) // the streams that it breaks are counted by the client
	srv := &http.Server{Handler: proxy}
	context.AfterFunc(ctx, func() { srv.Close() })
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

const nginxConf = `daemon off; master_process on; worker_processes 1; worker_rlimit_nofile 16384;
pid %[1]s/nginx.pid; error_log %[1]s/nginx.log warn;
events { worker_connections 8192; }
http {
  access_log off;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  client_body_buffer_size 256k; client_max_body_size 64m; keepalive_requests 1000000;
  upstream bench { server %[2]s; keepalive 4096; keepalive_requests 1000000; }
  server {
    listen %[3]s backlog=4096;
    location / { proxy_pass http://bench; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; proxy_read_timeout 300s; }
  }
}
`

func startNginx(ctx context.Context, dir, upstream string, _ *plan) (*proc, error) {
	path, err := exec.LookPath("nginx")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			return nil, err
		}
	}
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err = os.MkdirTemp(dir, "nginx")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, upstream, addr), 0o644); err != nil {
		return nil, err
	}
	return start(ctx, addr, filepath.Join(dir, "stderr"), nil, path, "-p", dir, "-c", conf, "-e", filepath.Join(dir, "nginx.log"))
}

const sheepgateConf = `listen: %s
data: %s
admin_key: env:SHEEPGATE_ADMIN_KEY
providers:
  bench: { type: openai, base_url: "http://%s/v1", key: x }
keys:
  bench: { key: env:SHEEPGATE_BENCH_KEY, team: bench%s }
`

// startSheepgate runs the real program with everything that it does by default,
// a key with limits and a budget, and its store.
func startSheepgate(ctx context.Context, dir, upstream string, p *plan) (*proc, error) {
	return serveSheepgate(ctx, dir, upstream, p, ", budget: $1000000/month, limits: { rpm: 100000000, tpm: 100000000000, concurrent: 10000 }")
}

// startUnlimited is the same with a key that nothing bounds.
func startUnlimited(ctx context.Context, dir, upstream string, p *plan) (*proc, error) {
	return serveSheepgate(ctx, dir, upstream, p, "")
}

func serveSheepgate(ctx context.Context, dir, upstream string, p *plan, bounds string) (*proc, error) {
	binary, err := p.built(ctx, dir)
	if err != nil {
		return nil, err
	}
	if dir, err = os.MkdirTemp(dir, "sheepgate"); err != nil {
		return nil, err
	}
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "sheepgate.yaml")
	if err := os.WriteFile(conf, fmt.Appendf(nil, sheepgateConf, addr, filepath.Join(dir, "data"), upstream, bounds), 0o600); err != nil {
		return nil, err
	}
	env := append(os.Environ(), "SHEEPGATE_ADMIN_KEY="+adminKey, "SHEEPGATE_BENCH_KEY="+benchKey)
	return start(ctx, addr, filepath.Join(dir, "sheepgate.log"), env, binary, "serve", "--config", conf)
}

// start runs a program and waits until addr takes connections.
func start(ctx context.Context, addr, log string, env []string, name string, args ...string) (*proc, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, f, f
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &proc{cmd: cmd, addr: addr, log: log}
	for range 200 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			time.Sleep(500 * time.Millisecond) // what a start leaves behind is done
			return p, nil
		}
		if ctx.Err() != nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.stop()
	out, _ := os.ReadFile(log)
	return nil, fmt.Errorf("does not listen: %s", out)
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// machine says where this ran.
func machine() string {
	return fmt.Sprintf("%d cores, %s %s/%s", runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
