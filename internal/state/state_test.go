package state

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/sheepgate/sheepgate/internal/call"
)

func TestAdminKeyIsShownOnceAndNotKept(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	d, key, err := s.Admin()
	if err != nil || len(key) < 40 {
		t.Fatalf("Admin = %q, %v", key, err)
	}
	if again, shown, err := s.Admin(); err != nil || shown != "" || again != d {
		t.Errorf("the second Admin shows %q, %v", shown, err)
	}
	ring := s.NewKeyring()
	ring.Set(map[Digest]*call.Principal{d: {Key: "admin", Admin: true}})
	if p, ok := ring.Find(key); !ok || !p.Admin {
		t.Errorf("Find(the key) = %v, %v", p, ok)
	}
	for _, wrong := range []string{"", key[:len(key)-1], key + "x", "' OR 1=1 --", string(make([]byte, 10_000))} {
		if _, ok := ring.Find(wrong); ok {
			t.Errorf("Find(%.20q) found a key", wrong)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(key)) {
			t.Errorf("%s holds the key itself", f)
		}
	}
	s, err = Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if again, shown, _ := s.Admin(); shown != "" || again != d || s.Digest(key) != d {
		t.Error("the key does not survive a restart")
	}
}

func BenchmarkFind(b *testing.B) {
	s, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	ring := s.NewKeyring()
	key := NewKey()
	ring.Set(map[Digest]*call.Principal{s.Digest(key): {}})
	b.ReportAllocs()
	for b.Loop() {
		ring.Find(key)
	}
}
