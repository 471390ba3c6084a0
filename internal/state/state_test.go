package state

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
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

func TestDamagedFileIsNamedAndKept(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "state.db")
	garbage := bytes.Repeat([]byte("not a database "), 1000)
	if err := os.WriteFile(file, garbage, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir)
	if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "backup") {
		t.Errorf("Open = %v, want an error that names the file and the way out", err)
	}
	if b, _ := os.ReadFile(file); !bytes.Equal(b, garbage) {
		t.Error("the damaged file was changed")
	}
}

func TestDigestIsSafeForConcurrentUse(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	secrets := []string{"a", "b", strings.Repeat("c", 500)}
	want := map[string]Digest{}
	for _, secret := range secrets {
		want[secret] = s.Digest(secret)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 500 {
				secret := secrets[(i+j)%len(secrets)]
				if s.Digest(secret) != want[secret] {
					t.Errorf("Digest(%.5q) differs", secret)
					return
				}
			}
		})
	}
	wg.Wait()
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
