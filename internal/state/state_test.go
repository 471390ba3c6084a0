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

func TestDamagedFileIsSetAside(t *testing.T) {
	garbage := bytes.Repeat([]byte("not a database "), 1000)
	check := func(name string, damage func(whole []byte) []byte) {
		t.Helper()
		dir := t.TempDir()
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		before, _, err := s.Admin()
		if err != nil || s.Close() != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "state.db")
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		damaged := damage(bytes.Clone(whole))
		if err := os.WriteFile(file, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err = Open(dir)
		if err != nil {
			t.Errorf("%s: Open = %v, want a state begun anew", name, err)
			return
		}
		defer s.Close()
		if b, _ := os.ReadFile(s.SetAside); !strings.HasPrefix(s.SetAside, file+".") || !bytes.Equal(b, damaged) {
			t.Errorf("%s: %q is not the damaged file", name, s.SetAside)
		}
		if d, created, err := s.Admin(); err != nil || created == "" || d == before {
			t.Errorf("%s: Admin = %q, %v, want a new key", name, created, err)
		}
		if again, err := Open(dir); err != nil || again.SetAside != "" || again.Close() != nil {
			t.Errorf("%s: the next Open = %+v, %v", name, again, err)
		}
	}
	check("garbage", func([]byte) []byte { return garbage })
	check("half", func(whole []byte) []byte { return whole[:len(whole)/2] })
	check("a bad page", func(whole []byte) []byte { copy(whole[len(whole)-4096:], garbage); return whole })
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "state.db-wal"), 0o700); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(folder); err != nil || s.SetAside == "" || s.Close() != nil {
		t.Errorf("a folder in place of the log: %+v, %v", s, err)
	}
	check("a bad head", func(whole []byte) []byte { copy(whole[:64], garbage); return whole })
}

// TestKilledAtOnce: the admin key is in the file itself once it was shown, for
// a log that is lost with it would change the key.
func TestKilledAtOnce(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d, _, err := s.Admin()
	if err != nil {
		t.Fatal(err)
	}
	copied := t.TempDir()
	b, err := os.ReadFile(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(copied, "state.db"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := Open(copied)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if again, shown, err := other.Admin(); err != nil || shown != "" || again != d {
		t.Errorf("without the log the admin key is another one: shown %q, %v", shown, err)
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
