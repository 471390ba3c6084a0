package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/config"
	"github.com/sheepgate/sheepgate/internal/provider/sim"
)

// TestLateStore: a volume that is away when the server starts. Calls are served
// and counted, readiness says what is degraded, questions get a clear error;
// once the volume is there every Call is stored.
func TestLateStore(t *testing.T) {
	up := httptest.NewServer(sim.New(sim.Options{Seed: 1, Speed: 1000, Calm: true}))
	t.Cleanup(up.Close)
	data := t.TempDir()
	yaml := fmt.Sprintf("listen: 127.0.0.1:0\ndata: %s\nadmin_key: %s\nproviders: { openai: { base_url: %s/openai/v1, key: x } }\n", strconv.Quote(data), testAdmin, up.URL)
	c, _, err := config.Parse("test.yaml", []byte(yaml), config.Options{Known: known()})
	if err != nil {
		t.Fatal(err)
	}
	run := func(visit func(s *testServer)) {
		t.Helper()
		s := &testServer{data: data, logs: new(bytes.Buffer)}
		if s.server, err = startServer(c, slog.New(slog.NewTextHandler(s.logs, nil)), ""); err != nil {
			t.Fatal(err)
		}
		visit(s)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.close(ctx); err != nil {
			t.Error(err)
		}
	}
	ask := func(s *testServer) string {
		t.Helper()
		res, b := s.do(t, "POST", "/v1/chat/completions", testAdmin, strings.NewReader(`{"model":"openai/gpt-4.1","messages":[{"role":"user","content":"hi"}]}`))
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%d: %s", res.StatusCode, b)
		}
		return res.Header.Get("Sheepgate-Call-Id")
	}
	var ids []string
	run(func(s *testServer) {
		ids = append(ids, ask(s))
		s.call(t, ids[0])
	})
	// The database is behind a link to a volume, which is away.
	volume, path := filepath.Join(t.TempDir(), "volume"), filepath.Join(data, "calls", "tail.db")
	if err := os.Mkdir(volume, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, side := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(path+side, filepath.Join(volume, "tail.db"+side)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(volume, "tail.db"), path); err != nil {
		t.Skip(err)
	}
	if err := os.Rename(volume, volume+"-away"); err != nil {
		t.Fatal(err)
	}
	run(func(s *testServer) {
		for range 5 {
			ids = append(ids, ask(s))
		}
		degraded := func() string {
			res, b := s.do(t, "GET", "/readyz", testAdmin, nil)
			if res.StatusCode != http.StatusOK {
				t.Errorf("/readyz: %d %s", res.StatusCode, b)
			}
			var a struct{ Degraded []string }
			if err := json.Unmarshal(b, &a); err != nil {
				t.Fatalf("%v: %s", err, b)
			}
			return strings.Join(a.Degraded, "\n")
		}
		if d := degraded(); !strings.Contains(d, "store:") || !strings.Contains(d, "tail.db") {
			t.Errorf("degraded: %q", d)
		}
		if res, b := s.do(t, "GET", "/api/v1/calls", testAdmin, nil); res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(b), "store_unavailable") {
			t.Errorf("a list: %d %s", res.StatusCode, b)
		}
		_, text := s.do(t, "GET", "/v1/metrics", testAdmin, nil)
		if n := metricSum(t, text, "holysheep_request_total", 1); n != 5 {
			t.Errorf("%v requests counted", n)
		}
		if err := os.Rename(volume+"-away", volume); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(20 * time.Second); degraded() != ""; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("still degraded: %s\n%s", degraded(), s.logs)
			}
		}
		for _, id := range ids {
			s.call(t, id)
		}
		if n := s.recorder.Lost(); n != 0 {
			t.Errorf("%d calls are lost", n)
		}
	})
}
