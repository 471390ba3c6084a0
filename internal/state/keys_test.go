package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
)

// A safe is a state with its keys, and a keyring that follows them.
type safe struct {
	*testing.T
	*State
	keys *Keys
	ring *Keyring
}

func openSafe(t *testing.T, dir string, fixed ...Key) *safe {
	t.Helper()
	s := &safe{T: t}
	var err error
	if s.State, err = Open(dir); err != nil {
		t.Fatal(err)
	}
	if s.keys, err = s.OpenKeys(fixed); err != nil {
		t.Fatal(err)
	}
	s.ring = s.NewKeyring()
	s.keys.Changed = func() {
		table := map[Digest]*call.Principal{}
		s.keys.Each(func(k *Key, d Digest, ends time.Time) {
			table[d] = &call.Principal{Key: k.Name, Team: k.Team, Models: k.Models, Expires: ends, Data: true}
		})
		s.ring.Set(table)
	}
	s.keys.Changed()
	return s
}

func (s *safe) create(k Key) (secret string) {
	s.Helper()
	made, secret, err := s.keys.Create(s.Context(), "admin", k)
	if err != nil {
		s.Fatalf("Create(%q): %v", k.Name, err)
	}
	if made.Last4 != secret[len(secret)-4:] || made.Created.IsZero() {
		s.Errorf("Create(%q) = %+v", k.Name, made)
	}
	return secret
}

func (s *safe) good(what, secret string, want bool) {
	s.Helper()
	if _, ok := s.ring.Find(secret); ok != want {
		s.Errorf("%s: found %v, want %v", what, ok, want)
	}
}

// kind fails unless err is a KeyError of a kind, about a field.
func (s *safe) kind(err error, kind KeyErrorKind, field, text string) {
	s.Helper()
	var e *KeyError
	if !errors.As(err, &e) || e.Kind != kind || e.Field != field || !strings.Contains(e.Msg, text) {
		s.Errorf("error = %#v, want kind %d of %q with %q", err, kind, field, text)
	}
}

func TestKeysLive(t *testing.T) {
	dir := t.TempDir()
	s := openSafe(t, dir)
	want := Key{Name: "팀 하나/api", Team: "red", Models: []string{"fast", "openai/gpt-4.1"}, Limits: Limits{RPM: 60, TPM: 1e15, InputTPM: 1, OutputTPM: 2, Concurrent: 3},
		Budget: []string{"$200/month", "$10/day"}, Metadata: map[string]string{"owner": "김"}, Expires: time.Now().Add(time.Hour)}
	first := s.create(want)
	p, ok := s.ring.Find(first)
	if !ok || p.Key != want.Name || p.Team != "red" || !slices.Equal(p.Models, want.Models) || p.Expires.IsZero() {
		t.Fatalf("Find = %+v, %v", p, ok)
	}
	k, err := s.keys.Update(t.Context(), "admin", want.Name, func(k *Key) error {
		k.Team, k.Name, k.Last4, k.Metadata["cost centre"] = "blue", "another", "xxxx", "7"
		return nil
	})
	if err != nil || k.Team != "blue" || k.Name != want.Name || k.Last4 == "xxxx" || len(k.Metadata) != 2 {
		t.Errorf("Update = %+v, %v", k, err)
	}
	if p, _ := s.ring.Find(first); p.Team != "blue" {
		t.Error("an update is not effective at once")
	}
	k, second, err := s.keys.Rotate(t.Context(), "admin", want.Name, 0)
	if err != nil || k.Rotated.IsZero() || k.Last4 != second[len(second)-4:] {
		t.Fatalf("Rotate = %+v, %v", k, err)
	}
	s.good("the credential before", first, false)
	s.good("the new credential", second, true)
	_, third, err := s.keys.Rotate(t.Context(), "admin", want.Name, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	s.good("within its grace", second, true)
	s.good("the credential before that", first, false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{first, second, third} {
			if bytes.Contains(b, []byte(secret)) {
				t.Errorf("%s holds a credential", f)
			}
		}
	}

	s = openSafe(t, dir)
	defer s.Close()
	s.good("within its grace, after a restart", second, true)
	s.good("the newest, after a restart", third, true)
	back, _ := s.keys.Get(want.Name)
	text, err := json.Marshal(back)
	if err != nil || back.Limits != want.Limits || !slices.Equal(back.Budget, want.Budget) || back.Metadata["owner"] != "김" || back.Metadata["cost centre"] != "7" || !back.Expires.Equal(want.Expires.Truncate(time.Microsecond)) {
		t.Errorf("after a restart: %s, %v", text, err)
	}
	if k, err = s.keys.Revoke(t.Context(), "admin", want.Name); err != nil || k.State(time.Now()) != KeyRevoked {
		t.Errorf("Revoke = %+v, %v", k, err)
	}
	s.good("the revoked credential", third, false)
	s.good("its grace", second, false)
	if again, err := s.keys.Revoke(t.Context(), "admin", want.Name); err != nil || !again.Revoked.Equal(k.Revoked) {
		t.Errorf("revoked twice: %+v, %v", again, err)
	}
	_, _, err = s.keys.Rotate(t.Context(), "admin", want.Name, 0)
	s.kind(err, KeyConflict, "", "was revoked")
	_, err = s.keys.Update(t.Context(), "admin", want.Name, func(*Key) error { return nil })
	s.kind(err, KeyConflict, "", "was revoked")
	_, _, err = s.keys.Create(t.Context(), "admin", Key{Name: want.Name})
	s.kind(err, KeyConflict, "name", "take another")
	if n, err := VerifyAudit(t.Context(), dir); err != nil || n != 5 {
		t.Errorf("VerifyAudit = %d, %v, want 5 changes", n, err)
	}
}

func TestKeysRefuse(t *testing.T) {
	s := openSafe(t, t.TempDir(), Key{Name: "fixed", Team: "config"})
	defer s.Close()
	s.keys.Check = func(k, was *Key) error {
		if slices.Contains(k.Models, "nosuch") {
			return &KeyError{KeyInvalid, "models", "no model nosuch"}
		}
		return nil
	}
	s.create(Key{Name: "a"})
	check := func(k Key, kind KeyErrorKind, field, text string) {
		t.Helper()
		_, secret, err := s.keys.Create(t.Context(), "admin", k)
		s.kind(err, kind, field, text)
		if secret != "" {
			t.Error("a credential of no key")
		}
	}
	long := strings.Repeat("x", 600)
	many := make([]string, 201)
	big := map[string]string{}
	for i := range many {
		many[i] = fmt.Sprint("m", i)
		big[many[i]] = ""
	}
	check(Key{Name: ""}, KeyInvalid, "name", "is not a name")
	check(Key{Name: long}, KeyInvalid, "name", "is not a name")
	check(Key{Name: "a\nb"}, KeyInvalid, "name", "is not a name")
	check(Key{Name: "a\xff"}, KeyInvalid, "name", "is not a name")
	check(Key{Name: " b"}, KeyInvalid, "name", "mistaken")
	check(Key{Name: ".."}, KeyInvalid, "name", "mistaken")
	check(Key{Name: "admin"}, KeyInvalid, "name", "admin key")
	check(Key{Name: "a"}, KeyConflict, "name", `there is a key "a"`)
	check(Key{Name: "fixed"}, KeyConflict, "name", "the configuration has")
	check(Key{Name: "b", Team: long}, KeyInvalid, "team", "")
	check(Key{Name: "b", Models: many}, KeyInvalid, "models", "more than 200")
	check(Key{Name: "b", Models: []string{""}}, KeyInvalid, "models", "is not a model")
	check(Key{Name: "b", Models: []string{"x", "x"}}, KeyInvalid, "models", "twice")
	check(Key{Name: "b", Models: []string{"nosuch"}}, KeyInvalid, "models", "no model nosuch")
	check(Key{Name: "b", Limits: Limits{RPM: -1}}, KeyInvalid, "limits.rpm", "is -1")
	check(Key{Name: "b", Limits: Limits{Concurrent: 1e15 + 1}}, KeyInvalid, "limits.concurrent", "10^15")
	check(Key{Name: "b", Budget: many}, KeyInvalid, "budget", "more than 8")
	check(Key{Name: "b", Budget: []string{""}}, KeyInvalid, "budget", "is not a budget")
	check(Key{Name: "b", Metadata: big}, KeyInvalid, "metadata", "more than 32")
	check(Key{Name: "b", Metadata: map[string]string{"x": long}}, KeyInvalid, "metadata", `"x"`)
	check(Key{Name: "b", Metadata: map[string]string{"": "x"}}, KeyInvalid, "metadata", "")
	check(Key{Name: "b", Expires: time.Now().Add(-time.Second)}, KeyInvalid, "expires_at", "in the past")
	check(Key{Name: "b", Expires: time.Now().AddDate(200, 0, 0)}, KeyInvalid, "expires_at", "100 years")
	same := func(*Key) error { return nil }
	_, err := s.keys.Update(t.Context(), "admin", "fixed", same)
	s.kind(err, KeyConflict, "", "in the configuration")
	_, err = s.keys.Revoke(t.Context(), "admin", "fixed")
	s.kind(err, KeyConflict, "", "in the configuration")
	_, _, err = s.keys.Rotate(t.Context(), "admin", "nobody", 0)
	s.kind(err, KeyNotFound, "", `"nobody"`)
	for _, grace := range []time.Duration{-1, 31 * 24 * time.Hour} {
		_, _, err = s.keys.Rotate(t.Context(), "admin", "a", grace)
		s.kind(err, KeyInvalid, "grace", "30")
	}
	if got := s.keys.All(); len(got) != 2 || got[0].Name != "a" || got[1].Name != "fixed" || !got[1].Fixed {
		t.Errorf("All = %v", got)
	}
}

// TestConfigurationHidesAKey: a name that the configuration takes is its own;
// the key behind it is not good, and comes back when the name is free.
func TestConfigurationHidesAKey(t *testing.T) {
	dir := t.TempDir()
	s := openSafe(t, dir)
	secret := s.create(Key{Name: "a"})
	s.Close()
	s = openSafe(t, dir, Key{Name: "a", Team: "config"})
	s.good("a hidden key", secret, false)
	if k, _ := s.keys.Get("a"); !k.Fixed || len(s.keys.All()) != 1 || !slices.Equal(s.keys.Hidden(), []string{"a"}) {
		t.Errorf("Get = %+v of %d, hidden %v", k, len(s.keys.All()), s.keys.Hidden())
	}
	s.Close()
	s = openSafe(t, dir)
	defer s.Close()
	s.good("a key whose name is free again", secret, true)
}

// TestKeysExpire: by the clock, without anybody doing anything; a session ends
// with its credential.
func TestKeysExpire(t *testing.T) {
	dir := t.TempDir()
	if s := openSafe(t, dir); s.Close() != nil { // what packages make once is made outside of the bubble
		t.Fatal("Close")
	}
	synctest.Test(t, func(t *testing.T) {
		s := openSafe(t, dir)
		defer s.Close()
		sessions, err := s.NewSessions(s.ring)
		if err != nil {
			t.Fatal(err)
		}
		short := s.create(Key{Name: "short", Expires: time.Now().Add(time.Minute)})
		page, err := sessions.Start(short, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		old := s.create(Key{Name: "rotated", Expires: time.Now().Add(time.Hour)})
		_, next, err := s.keys.Rotate(t.Context(), "admin", "rotated", 10*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute - time.Nanosecond)
		s.good("before it expires", short, true)
		if _, ok := sessions.Find(page); !ok {
			t.Error("no session before the key expires")
		}
		time.Sleep(time.Nanosecond)
		s.good("expired", short, false)
		if _, ok := sessions.Find(page); ok {
			t.Error("the session outlives its key")
		}
		if k, _ := s.keys.Get("short"); k.State(time.Now()) != KeyExpired {
			t.Errorf("state = %s", k.State(time.Now()))
		}
		_, _, err = s.keys.Rotate(t.Context(), "admin", "short", 0)
		s.kind(err, KeyConflict, "expires_at", "has expired")
		if _, err = s.keys.Update(t.Context(), "admin", "short", func(k *Key) error { k.Team = "x"; return nil }); err != nil {
			t.Errorf("an expired key cannot be changed: %v", err)
		}
		if _, err = s.keys.Update(t.Context(), "admin", "short", func(k *Key) error { k.Expires = time.Time{}; return nil }); err != nil {
			t.Error(err)
		}
		s.good("brought back", short, true)
		s.good("in grace", old, true)
		time.Sleep(9 * time.Minute)
		s.good("after its grace", old, false)
		s.good("rotated", next, true)
	})
}

func TestKeysAreBounded(t *testing.T) {
	dir := t.TempDir()
	s := openSafe(t, dir)
	defer s.Close()
	s.keys.most = 3
	for _, name := range []string{"a", "b", "c"} {
		s.create(Key{Name: name})
	}
	_, _, err := s.keys.Create(t.Context(), "admin", Key{Name: "d"})
	s.kind(err, KeyConflict, "", "there are 3 keys")
	for _, name := range []string{"b", "a"} {
		if _, err := s.keys.Revoke(t.Context(), "admin", name); err != nil {
			t.Fatal(err)
		}
	}
	s.create(Key{Name: "d"}) // b, which was revoked first, makes room
	s.create(Key{Name: "b"}) // and a
	names := ""
	for _, k := range s.keys.All() {
		names += k.Name
	}
	if names != "bcd" {
		t.Errorf("keys %s, want bcd", names)
	}
	if list, err := s.Audit(t.Context(), "key:b", 0, 10); err != nil || len(list) != 4 || list[1].Action != "key.forget" || list[1].After != nil || list[0].Action != "key.create" || list[0].Before != nil {
		t.Errorf("the audit log of b: %v, %v", list, err)
	}
	if _, err := VerifyAudit(t.Context(), dir); err != nil {
		t.Error(err)
	}
}

// TestKeysAtOnce: changes from many sides are each made whole, and what is in
// memory is what is on disk.
func TestKeysAtOnce(t *testing.T) {
	dir := t.TempDir()
	s := openSafe(t, dir)
	if _, _, err := s.Admin(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var same atomic.Int32
	for i := range 4 {
		wg.Go(func() {
			for j := range 5 {
				name := fmt.Sprintf("%d-%d", i, j)
				_, old, err := s.keys.Create(t.Context(), "admin", Key{Name: name})
				if err != nil {
					t.Error(err)
					return
				}
				_, secret, err := s.keys.Rotate(t.Context(), "admin", name, 0)
				if _, ok := s.ring.Find(secret); err != nil || !ok {
					t.Errorf("%s is not good: %v", name, err)
				}
				s.good(name+" before its rotation", old, false)
				if j%2 == 0 {
					if _, err := s.keys.Revoke(t.Context(), "admin", name); err != nil {
						t.Error(err)
					}
					s.good(name+", revoked", secret, false)
				}
				if _, _, err := s.keys.Create(t.Context(), "admin", Key{Name: "same"}); err == nil {
					same.Add(1)
				}
			}
		})
		wg.Go(func() {
			if _, _, err := s.ResetAdmin("local:test"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if same.Load() != 1 {
		t.Errorf("one name was taken %d times", same.Load())
	}
	before, _ := json.Marshal(s.keys.All())
	if n, err := VerifyAudit(t.Context(), dir); err != nil || n != 1+4+20+20+12+1 {
		t.Errorf("VerifyAudit = %d, %v, want 58", n, err)
	}
	s.Close()
	s = openSafe(t, dir)
	defer s.Close()
	if after, _ := json.Marshal(s.keys.All()); !bytes.Equal(before, after) || len(s.keys.All()) != 21 {
		t.Errorf("%d keys after a restart differ from those before", len(s.keys.All()))
	}
}

// TestKeysOnADeadDisk: nothing is told that was not written, and what was good
// stays good.
func TestKeysOnADeadDisk(t *testing.T) {
	s := openSafe(t, t.TempDir())
	secret := s.create(Key{Name: "a"})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var e *KeyError
	if _, _, err := s.keys.Create(t.Context(), "admin", Key{Name: "b"}); err == nil || errors.As(err, &e) {
		t.Errorf("Create = %v", err)
	}
	if _, err := s.keys.Revoke(t.Context(), "admin", "a"); err == nil {
		t.Error("Revoke says nothing")
	}
	s.good("a key of a disk that is dead", secret, true)
	if len(s.keys.All()) != 1 {
		t.Errorf("%d keys", len(s.keys.All()))
	}
}

func TestKeyAsJSONHoldsNoDigest(t *testing.T) {
	s := openSafe(t, t.TempDir())
	defer s.Close()
	secret := s.create(Key{Name: "a"})
	k, _ := s.keys.Get("a")
	text, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil || len(fields) != 15 || fields["source"] != "runtime" || fields["state"] != "active" || fields["expires_at"] != nil {
		t.Errorf("%s: %v", text, err)
	}
	list, err := s.Audit(t.Context(), "", 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	log, _ := json.Marshal(list[0].After)
	for _, text := range [][]byte{text, log, []byte(fmt.Sprintf("%s %s", list[0].After, list[0].Before))} {
		d := s.Digest(secret)
		if bytes.Contains(text, []byte(secret)) || bytes.Contains(text, d[:]) || bytes.Contains(text, []byte(fmt.Sprintf("%x", d))) {
			t.Errorf("%s holds what it must not", text)
		}
	}
}

// FuzzKey: whatever is taken as a key is the same after a restart.
func FuzzKey(f *testing.F) {
	f.Add("a", "red", "fast", "$1/day", "owner", "me", int64(60))
	f.Add("팀/하나", "", "openai/gpt-4.1", "", "", "", int64(0))
	f.Add(" ", "\x00", "\xff", "\n", "\u202e", "\ufffd", int64(-1))
	s, err := Open(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(t *testing.T, name, team, model, budget, field, text string, n int64) {
		keys, err := s.OpenKeys(nil)
		if err != nil {
			t.Fatal(err)
		}
		keys.most = 10
		k := Key{Name: name, Team: team, Models: []string{model}, Budget: []string{budget}, Metadata: map[string]string{field: text}, Limits: Limits{TPM: n}}
		made, _, err := keys.Create(t.Context(), "fuzz", k)
		if err != nil {
			if !errors.As(err, new(*KeyError)) {
				t.Fatal(err)
			}
			return
		}
		if keys, err = s.OpenKeys(nil); err != nil {
			t.Fatal(err)
		}
		back, ok := keys.Get(name)
		a, _ := json.Marshal(made)
		b, _ := json.Marshal(back)
		if !ok || !bytes.Equal(a, b) {
			t.Errorf("%s came back as %s", a, b)
		}
		if _, err := keys.Revoke(t.Context(), "fuzz", name); err != nil {
			t.Fatal(err)
		}
	})
}
