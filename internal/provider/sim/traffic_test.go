package sim

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// Calls come in all three dialects, streamed and plain, and every one that
// names a model that exists is answered by a provider in good mood.
func TestTraffic(t *testing.T) {
	s := New(Options{Speed: 1000, Calm: true})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const enough, rate = 400, 300
	var mu sync.Mutex
	seen := map[string]int{}
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch p := r.URL.Path; {
		case p == "/v1/messages":
			r.URL.Path = "/anthropic" + p
		case strings.HasPrefix(p, "/v1beta/"):
			r.URL.Path = "/gemini" + p
		}
		rec := &statusWriter{ResponseWriter: w}
		s.ServeHTTP(rec, r)
		mu.Lock()
		defer mu.Unlock()
		if seen["all"]++; seen["all"] == enough {
			cancel()
		}
		kind, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		seen[kind]++
		if strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream") {
			seen["stream"]++
		}
		switch rec.status {
		case http.StatusNotFound:
			seen["no model"]++
		case http.StatusBadRequest:
			seen["mistake"]++
		case 0, http.StatusOK:
			seen["ok"]++
		default:
			seen["other"]++
			t.Errorf("%s: status %d", r.URL.Path, rec.status)
		}
	}))
	defer gateway.Close()
	began := time.Now()
	Traffic(ctx, gateway.URL, "k", TrafficOptions{Rate: rate})
	mu.Lock()
	defer mu.Unlock()
	for _, kind := range []string{"v1", "anthropic", "gemini", "stream"} {
		if seen[kind] < 20 {
			t.Errorf("%d calls of kind %s in %v, want at least 20", seen[kind], kind, seen)
		}
	}
	if took := time.Since(began); took < enough*time.Second/rate/3 || seen["all"] < enough {
		t.Errorf("%d calls in %v at %d a second", seen["all"], took, rate)
	}
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
