package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/config"
	"github.com/sheepgate/sheepgate/internal/state"
)

// openAIUpstream answers every chat completion with 1,000 tokens in and 100 out:
// 2.8 thousandths of a dollar at gpt-4.1's price.
func openAIUpstream(t *testing.T) (base string, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"id":"1","object":"chat.completion","model":"gpt-4.1","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}`)
	}))
	t.Cleanup(up.Close)
	return up.URL + "/v1", asked
}

const (
	aCall     = 1000*2000 + 100*8000 // nano-USD of one
	limitsKey = "limits-client-key-0123456789"
)

func (s *testServer) chat(t *testing.T, key string) int {
	t.Helper()
	res, _ := s.do(t, "POST", "/v1/chat/completions", key, strings.NewReader(`{"model":"openai/gpt-4.1","max_tokens":100,"messages":[{"role":"user","content":"`+strings.Repeat("word ", 400)+`"}]}`))
	return res.StatusCode
}

// rule is what the API says of a rule.
func (s *testServer) rule(t *testing.T, name string) (l call.LiveLimit) {
	t.Helper()
	_, b := s.do(t, "GET", "/api/v1/limits", testAdmin, nil)
	var got struct{ Rules []call.LiveLimit }
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	for _, l := range got.Rules {
		if l.Rule == name {
			return l
		}
	}
	t.Fatalf("no rule %s in %s", name, b)
	return l
}

func limitsYAML(data, base, key string) string {
	return fmt.Sprintf("listen: 127.0.0.1:0\ndata: %q\nadmin_key: %s\nproviders: { openai: { base_url: %q, key: k } }\nkeys: { k: { key: %s, team: t, %s } }\nteams: { t: { budget: $1/total } }\n", data, testAdmin, base, limitsKey, key)
}

// TestLimitsOutliveRestart: what was spent, and what was called in the last minute,
// counts after a stop; after a kill, of which nothing but the Calls is left; and
// where the state is lost.
func TestLimitsOutliveRestart(t *testing.T) {
	base, _ := openAIUpstream(t)
	data := t.TempDir()
	file := write(t, "limits.yaml", limitsYAML(data, base, "budget: [$0.05/day, $0.5/month], limits: { rpm: 10, tpm: 1M }"))
	calls := 0
	life := func(before func(), more int) {
		t.Helper()
		if before != nil {
			before()
		}
		t.Run("life", func(t *testing.T) {
			s := serveFile(t, file)
			for _, name := range []string{"key k", "team t"} {
				for _, b := range s.rule(t, name).Budgets {
					if int64(b.Spent) != int64(calls)*aCall {
						t.Errorf("%s: %v of a %s spent at the start, %d calls cost %v", name, b.Spent, b.Period, calls, calls*aCall)
					}
				}
			}
			if l := s.rule(t, "key k"); int(l.Requests.Used) != calls || int(l.Tokens.Used) != 1100*calls {
				t.Errorf("%+v at the start, after %d calls", l, calls)
			}
			for range more {
				if status := s.chat(t, limitsKey); status != 200 {
					t.Errorf("status %d", status)
				}
				calls++
			}
		})
	}
	forget := func(f func(*state.State)) func() {
		return func() {
			t.Helper()
			st, err := state.Open(data)
			if err != nil {
				t.Fatal(err)
			}
			f(st)
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	life(nil, 2)
	life(nil, 2)
	life(forget(func(st *state.State) { // as a kill leaves it: what was saved is a minute old
		old, err := st.LoadSpent(t.Context())
		if err != nil || len(old) != 3 {
			t.Fatalf("%+v %v", old, err)
		}
		for i := range old {
			old[i].Nano, old[i].AsOf = 0, time.Now().Add(-time.Minute)
		}
		if err := st.SaveSpent(t.Context(), old); err != nil {
			t.Fatal(err)
		}
	}), 2)
	life(func() {
		for _, side := range []string{"", "-wal", "-shm"} {
			_ = os.Remove(filepath.Join(data, "state.db"+side)) // it may not be there
		}
	}, 2)
	t.Run("full", func(t *testing.T) {
		s := serveFile(t, file)
		for calls < 10 {
			calls++
			if status := s.chat(t, limitsKey); status != 200 {
				t.Errorf("status %d", status)
			}
		}
		if status := s.chat(t, limitsKey); status != 429 {
			t.Errorf("call 11 of 10: %d", status)
		}
	})
}

// TestReload: a changed configuration is in force for the next request, one that is
// not valid changes nothing and is told, and what has been counted stays.
func TestReload(t *testing.T) {
	base, asked := openAIUpstream(t)
	data := t.TempDir()
	text := limitsYAML(data, base, "budget: $0.018/day")
	var mu sync.Mutex
	parse := func() (*config.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		c, _, err := config.Parse("reload.yaml", []byte(text), config.Options{Known: known()})
		return c, err
	}
	file := write(t, "reload.yaml", text)
	s := serveFile(t, file)
	now, err := parse()
	if err != nil {
		t.Fatal(err)
	}
	r := &reloader{s: s.server, now: now, read: parse, out: io.Discard}
	s.reloader.Store(r)
	for range 6 {
		if status := s.chat(t, limitsKey); status != 200 {
			t.Fatalf("status %d", status)
		}
	}
	if status := s.chat(t, limitsKey); status != 429 {
		t.Errorf("over the budget: %d", status)
	}
	before := asked.Load()

	change := func(to string) error {
		mu.Lock()
		text = to
		mu.Unlock()
		return r.reload(t.Context())
	}
	good := text
	for _, bad := range []string{"lisen: x\n", strings.Replace(good, "$0.018/day", "-$1/day", 1), strings.Replace(good, "openai:", "opnai:", 1), good + "prices: { overrides: /nonexistent.yaml }\n"} {
		if err := change(bad); err == nil {
			t.Errorf("%s is valid", bad)
		}
		if status := s.chat(t, limitsKey); status != 429 {
			t.Errorf("after an invalid file: %d", status)
		}
	}
	_, text1 := s.do(t, "GET", "/v1/metrics", testAdmin, nil)
	if !strings.Contains(string(text1), "holysheep_config_reload_failed 1") || !strings.Contains(string(text1), `holysheep_config_reloads_total{result="error"} 4`) {
		t.Errorf("the metrics do not say that it failed")
	}
	if err := change(strings.Replace(good, "$0.018/day", "$0.05/day", 1)); err != nil {
		t.Fatal(err)
	}
	if l := s.rule(t, "key k"); l.Budgets[0].Amount != 50_000_000 || l.Budgets[0].Spent != 6*aCall {
		t.Errorf("%+v", l.Budgets)
	}
	if status := s.chat(t, limitsKey); status != 200 || asked.Load() != before+1 {
		t.Errorf("with more money: %d", status)
	}
	// A budget that is new knows what was spent before there was one.
	for n := 0; ; n++ { // until the Calls are stored
		if _, b := s.do(t, "GET", "/api/v1/calls?status=success", testAdmin, nil); strings.Count(string(b), `"id":"01`) >= 7 || n > 100 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err := change(strings.Replace(good, "$0.018/day", "[$0.05/day, $0.021/week]", 1)); err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		l := s.rule(t, "key k")
		if len(l.Budgets) == 2 && l.Budgets[1].Spent == 7*aCall && l.Budgets[0].Spent == 7*aCall {
			break
		}
		if n > 100 {
			t.Fatalf("%+v", l.Budgets)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if status := s.chat(t, limitsKey); status != 429 {
		t.Errorf("over the new budget: %d", status)
	}
	// Another key, another alias, another provider's address.
	next := strings.NewReplacer(limitsKey, "another-client-key-0123456789", ", budget: $0.018/day", "", "team: t, budget: $0.018/day", "team: t").Replace(good) + "models: { fast: { use: openai/gpt-4.1 } }\n"
	if err := change(next); err != nil {
		t.Fatal(err)
	}
	if status := s.chat(t, limitsKey); status != 401 {
		t.Errorf("with a key that is gone: %d", status)
	}
	res, body := s.do(t, "POST", "/v1/chat/completions", "another-client-key-0123456789", strings.NewReader(`{"model":"fast","messages":[]}`))
	if res.StatusCode != 200 {
		t.Errorf("the new alias with the new key: %d %s", res.StatusCode, body)
	}
	// Two at once are one after the other.
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			to := good
			if i%2 == 0 {
				to = next
			}
			if err := change(to); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := change(good); err != nil {
		t.Fatal(err)
	}
	if l := s.rule(t, "key k"); l.Concurrent.Used != 0 {
		t.Errorf("%+v", l)
	}
}

// TestReloadUnderWay: a budget that comes into force while calls are under way
// counts each of them once: those that end before it knows its past, those that
// end later, and those that began after it.
func TestReloadUnderWay(t *testing.T) {
	held := make(chan struct{})
	var asked atomic.Int64
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked.Add(1)
		if bytes.Contains(body, []byte("hold")) {
			<-held
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"id":"1","object":"chat.completion","model":"gpt-4.1","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}`)
	}))
	defer up.Close()
	text := limitsYAML(t.TempDir(), up.URL+"/v1", "budget: $9/day") + "timeouts: { total: 3s }\n"
	s := serveFile(t, write(t, "reload.yaml", text))
	parse := func() (*config.Config, error) {
		c, _, err := config.Parse("reload.yaml", []byte(text), config.Options{Known: known()})
		return c, err
	}
	now, err := parse()
	if err != nil {
		t.Fatal(err)
	}
	r := &reloader{s: s.server, now: now, read: parse, out: io.Discard}
	s.reloader.Store(r)
	s.ledger.linger = time.Second
	for range 3 { // ended before, perhaps not yet stored
		s.chat(t, limitsKey)
	}
	var wg sync.WaitGroup
	for range 4 { // end after
		wg.Go(func() {
			if res, b := s.do(t, "POST", "/v1/chat/completions", limitsKey, strings.NewReader(`{"model":"openai/gpt-4.1","messages":[{"role":"user","content":"hold"}]}`)); res.StatusCode != 200 {
				t.Errorf("%d %s", res.StatusCode, b)
			}
		})
	}
	body, rest := io.Pipe() // one that is still being sent
	wg.Go(func() {
		if res, b := s.do(t, "POST", "/v1/chat/completions", limitsKey, body); res.StatusCode != 200 {
			t.Errorf("%d %s", res.StatusCode, b)
		}
	})
	fmt.Fprint(rest, `{"model":"openai/gpt-4.1","messages":[`)
	for n := 0; (asked.Load() < 7 || s.gateway.InFlight() < 5) && n < 200; n++ {
		time.Sleep(10 * time.Millisecond)
	}
	text = strings.Replace(text, "$9/day", "[$9/day, $9/week]", 1)
	if err := r.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(rest, `{"role":"user","content":"hi"}]}`)
	rest.Close()
	for range 5 {
		s.chat(t, limitsKey)
	}
	time.Sleep(time.Second)
	close(held)
	wg.Wait()
	for n := 0; ; n++ {
		b := s.rule(t, "key k").Budgets
		if len(b) != 2 || b[0].Spent != 13*aCall || b[1].Spent > 13*aCall {
			t.Fatalf("%+v after 13 calls of %d", b, aCall)
		}
		if b[1].Spent == 13*aCall {
			break
		}
		if n == 100 {
			t.Fatalf("the week has spent %v of %v", b[1].Spent, b[0].Spent)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestReloadFile: a file that changes, and a SIGHUP, are noticed.
func TestReloadFile(t *testing.T) {
	base, _ := openAIUpstream(t)
	data := t.TempDir()
	file := write(t, "watched.yaml", limitsYAML(data, base, "limits: { rpm: 1 }"))
	s := serveFile(t, file)
	c, _, err := config.Load(file, config.Options{Known: known()})
	if err != nil {
		t.Fatal(err)
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	r := &reloader{s: s.server, now: c, from: time.Now(), file: file, hup: hup, out: io.Discard, read: func() (*config.Config, error) {
		c, _, err := config.Load(file, config.Options{Known: known()})
		return c, err
	}}
	stop := r.start(context.Background())
	defer stop()
	wait := func(rpm int64) {
		t.Helper()
		for range 100 {
			if s.rule(t, "key k").Requests.Limit == rpm {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Fatalf("%d requests a minute never came in force", rpm)
	}
	change := func(rpm int) {
		t.Helper()
		next := filepath.Join(filepath.Dir(file), "next.yaml")
		if err := os.WriteFile(next, []byte(limitsYAML(data, base, fmt.Sprintf("limits: { rpm: %d }", rpm))), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, file); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(100 * time.Millisecond)
	change(7)
	wait(7)
	change(8)
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	wait(8)
}

// TestAdminKeyOfAFailedStart: a first start that fails shows no admin key, so the
// next one makes one that it shows.
func TestAdminKeyOfAFailedStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	c.Data, c.Listen = t.TempDir(), taken.Addr().String()
	log := slog.New(slog.DiscardHandler)
	if _, err := startServer(c, log, ""); err == nil {
		t.Fatal("it started on an address that is taken")
	}
	taken.Close()
	s, err := startServer(c, log, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close(t.Context())
	if s.adminKey == "" {
		t.Error("no admin key is shown")
	}
}
