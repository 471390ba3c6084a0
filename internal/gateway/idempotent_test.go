package gateway

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
)

// TestIdempotencyKey: the same request with the same key is answered once by the
// provider, in plain and as a stream; while it is under way it is refused, with
// another body too; what failed may be tried again.
func TestIdempotencyKey(t *testing.T) {
	var asked atomic.Int64
	hold, held := make(chan struct{}), make(chan struct{}, 1)
	r := newRig(t, func(c *Config) { c.Idempotency = time.Hour; c.Retry.Attempts = 1 }, func(w http.ResponseWriter, req *http.Request) {
		n := asked.Add(1)
		b, _ := io.ReadAll(req.Body)
		switch text := string(b); {
		case strings.Contains(text, "fail"):
			say(500, `{"error":{"message":"no"}}`)(w, req)
		case strings.Contains(text, "slow"):
			held <- struct{}{}
			<-hold
			say(200, reply)(w, req)
		case strings.Contains(text, `"stream":true`):
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(w, "data: {\"id\":\"%d\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hello\"},\"finish_reason\":\"stop\"}]}\n\ndata: {\"id\":\"%d\",\"choices\":[],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":1,\"total_tokens\":9}}\n\ndata: [DONE]\n\n", n, n)
		default:
			say(200, strings.Replace(reply, `"r1"`, fmt.Sprintf(`"r%d"`, n), 1))(w, req)
		}
	})
	send := func(key, body string) (int, http.Header, string) {
		t.Helper()
		req, _ := http.NewRequest("POST", r.URL+"/v1/chat/completions", strings.NewReader(body))
		req.Header.Set("X-Api-Key", "client-key")
		if key != "" {
			req.Header.Set("Idempotency-Key", key)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, res.Header, string(b)
	}
	for i, body := range []string{chat, strings.Replace(chat, "{", `{"stream":true,`, 1)} {
		key := fmt.Sprint("key-", i)
		before := asked.Load()
		status, h, first := send(key, body)
		c := r.recorded(t)
		if status != 200 || h.Get("Sheepgate-Replay-Of") != "" || c.Cost == 0 {
			t.Errorf("%d %v %+v", status, h, c)
		}
		for range 3 {
			status, again, text := send(key, body)
			if status != 200 || text != first || again.Get("Sheepgate-Replay-Of") != c.ID || again.Get("Sheepgate-Call-Id") == c.ID || again.Get("Content-Type") != h.Get("Content-Type") {
				t.Errorf("again: %d %v %s", status, again, text)
			}
			if k := r.recorded(t); k.Cost != 0 || k.Usage.Input != 0 || len(k.Attempts) != 0 || k.Status != call.Success {
				t.Errorf("again: %+v", k)
			}
		}
		if n := asked.Load(); n != before+1 {
			t.Errorf("asked %d times", n-before)
		}
		if status, _, text := send(key, strings.Replace(body, "hi", "ho", 1)); status != 422 || !strings.Contains(text, c.ID) {
			t.Errorf("another request with the same key: %d %s", status, text)
		}
		r.recorded(t)
		if _, _, text := send("", body); text == first {
			t.Error("a request without a key got the answer of one with it")
		}
		r.recorded(t)
	}

	done := make(chan string)
	slow := strings.Replace(chat, "hi", "slow", 1)
	go func() { _, _, text := send("k", slow); done <- text }()
	<-held
	if status, h, text := send("k", slow); status != 409 || h.Get("Retry-After") != "1" || !strings.Contains(text, "idempotency_in_flight") {
		t.Errorf("while it is under way: %d %v %s", status, h, text)
	}
	close(hold)
	first := <-done
	r.recorded(t)
	r.recorded(t)
	if _, _, text := send("k", slow); text != first {
		t.Errorf("later: %s", text)
	}
	r.recorded(t)

	for range 2 {
		before := asked.Load()
		if status, _, _ := send("failing", strings.Replace(chat, "hi", "fail", 1)); status != 502 || asked.Load() != before+1 {
			t.Errorf("what failed: %d, asked %d times", status, asked.Load()-before)
		}
		r.recorded(t)
	}
	if status, _, _ := send(strings.Repeat("k", 256), chat); status != 400 {
		t.Errorf("a key that is too long: %d", status)
	}
	r.recorded(t)
}

// TestIdempotencyTable: answers are bounded in number, length and age, and what is
// under way is not forgotten.
func TestIdempotencyTable(t *testing.T) {
	var tab idempotency
	id := func(n int) [sha256.Size]byte { return sha256.Sum256([]byte(fmt.Sprint(n))) }
	if k, err := tab.begin(id(-1), id(0), "under way", time.Hour); k != nil || err != nil {
		t.Fatal(k, err)
	}
	for n := range 200 {
		if k, err := tab.begin(id(n), id(0), fmt.Sprint(n), time.Hour); k != nil || err != nil {
			t.Fatal(k, err)
		}
		tab.end(id(n), fmt.Sprint(n), nil, make([]byte, maxKeptAnswer))
	}
	if tab.size > maxKeptAnswers || len(tab.byID) != tab.old.Len() || len(tab.byID) < 50 {
		t.Errorf("%d bytes in %d", tab.size, len(tab.byID))
	}
	if _, err := tab.begin(id(-1), id(0), "again", time.Hour); err == nil {
		t.Error("what is under way was forgotten")
	}
	if k, err := tab.begin(id(199), id(0), "again", time.Hour); k == nil || err != nil {
		t.Errorf("the last answer is not there: %v", err)
	}
	if k, err := tab.begin(id(198), id(0), "again", 0); k == nil && err != nil {
		t.Errorf("one that is too old: %v", err)
	}
	tab.end(id(-1), "someone else", nil, nil)
	if _, err := tab.begin(id(-1), id(0), "again", time.Hour); err == nil {
		t.Error("another call ended it")
	}
	tab.end(id(-1), "under way", nil, nil)
	if k, err := tab.begin(id(-1), id(0), "again", time.Hour); k != nil || err != nil {
		t.Errorf("what failed cannot be tried again: %v %v", k, err)
	}
}
