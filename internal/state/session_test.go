package state

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
)

func TestSessionsOutliveARestart(t *testing.T) {
	dir := t.TempDir()
	open := func() (*State, *Keyring, *Sessions) {
		t.Helper()
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		ring := s.NewKeyring()
		ring.Set(map[Digest]*call.Principal{s.Digest("the-key"): {Key: "a"}})
		n, err := s.NewSessions(ring)
		if err != nil {
			t.Fatal(err)
		}
		return s, ring, n
	}
	s, _, n := open()
	start := func(life time.Duration) string {
		t.Helper()
		id, err := n.Start("the-key", life)
		if err != nil || len(id) < 26 {
			t.Fatalf("Start = %q, %v", id, err)
		}
		return id
	}
	kept, ended, over := start(time.Hour), start(time.Hour), start(-time.Second)
	find := func(what, id string, want bool) {
		t.Helper()
		if p, ok := n.Find(id); ok != want || ok && p.Key != "a" {
			t.Errorf("%s: found %v, want %v", what, ok, want)
		}
	}
	find("a session", kept, true)
	find("one whose time is over", over, false)
	find("nothing", "", false)
	find("the key", "the-key", false)
	if err := n.End(ended); err != nil {
		t.Fatal(err)
	}
	find("one that was ended", ended, false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(kept)) || bytes.Contains(b, []byte("the-key")) {
			t.Errorf("%s holds a cookie or a key", f)
		}
	}
	s, ring, n := open()
	defer s.Close()
	find("a session after a restart", kept, true)
	find("an ended one after a restart", ended, false)
	ring.Set(map[Digest]*call.Principal{s.Digest("another"): {Key: "a"}})
	find("a session of a key that was revoked", kept, false)
}

func TestSessionsAreBounded(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ring := s.NewKeyring()
	ring.Set(map[Digest]*call.Principal{s.Digest("k"): {Key: "a"}})
	n, err := s.NewSessions(ring)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil { // a dead disk signs nobody out
		t.Fatal(err)
	}
	first, err := n.Start("k", time.Hour)
	if err == nil {
		t.Error("Start says nothing of a closed file")
	}
	if _, ok := n.Find(first); !ok {
		t.Error("no session without a disk")
	}
	for range maxSessions {
		_, _ = n.Start("k", 2*time.Hour) // as above
	}
	if got := len(n.by); got != maxSessions {
		t.Errorf("%d sessions are kept, want %d", got, maxSessions)
	}
	if _, ok := n.Find(first); ok {
		t.Error("the oldest session was not pushed out")
	}
}
