package state

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
)

func TestAuditIsOnlyAppendedTo(t *testing.T) {
	s := openSafe(t, t.TempDir())
	defer s.Close()
	s.create(Key{Name: "a"})
	s.create(Key{Name: "b"})
	for _, text := range []string{
		"UPDATE audit SET actor = 'nobody'",
		"DELETE FROM audit",
		"DELETE FROM audit WHERE seq = 2",
		"INSERT OR REPLACE INTO audit SELECT 1, at, 'nobody', action, object, before, after, prev, hash FROM audit WHERE seq = 1",
		"INSERT INTO audit SELECT 7, at, actor, action, object, before, after, prev, hash FROM audit WHERE seq = 1",
		"INSERT INTO audit SELECT 0, at, actor, action, object, before, after, prev, hash FROM audit WHERE seq = 1",
	} {
		if _, err := s.db.Exec(text); err == nil || !strings.Contains(err.Error(), "only appended to") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestTamperingShows(t *testing.T) {
	check := func(seq int64, what string, tamper ...string) {
		t.Helper()
		dir := t.TempDir()
		s := openSafe(t, dir)
		defer s.Close()
		for _, name := range []string{"a", "b", "c", "d"} {
			s.create(Key{Name: name})
		}
		if n, err := VerifyAudit(t.Context(), dir); err != nil || n != 4 {
			t.Fatalf("VerifyAudit = %d, %v", n, err)
		}
		for _, text := range append([]string{"DROP TRIGGER audit_insert", "DROP TRIGGER audit_update", "DROP TRIGGER audit_delete"}, tamper...) {
			if _, err := s.db.Exec(text); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
		}
		var broken *BrokenAudit
		if _, err := VerifyAudit(t.Context(), dir); !errors.As(err, &broken) || broken.Seq != seq || !strings.Contains(err.Error(), what) {
			t.Errorf("%v: %v, want entry %d: %s", tamper, err, seq, what)
		}
	}
	check(2, "is not what was written", "UPDATE audit SET actor = 'nobody' WHERE seq = 2")
	check(1, "is not what was written", "UPDATE audit SET at = at + 1 WHERE seq = 1")
	check(3, "is not what was written", "UPDATE audit SET after = replace(after, 'active', 'revoked') WHERE seq = 3")
	check(3, "is not what was written", "UPDATE audit SET before = after, after = before WHERE seq = 3")
	check(4, "is not what was written", "UPDATE audit SET hash = zeroblob(32) WHERE seq = 4")
	check(2, "is missing", "DELETE FROM audit WHERE seq = 2")
	check(1, "is missing", "DELETE FROM audit WHERE seq = 1")
	check(4, "does not end with", "DELETE FROM audit WHERE seq = 4")
	check(1, "does not end with", "DELETE FROM audit")
	check(2, "does not follow", "DELETE FROM audit WHERE seq = 2", "UPDATE audit SET seq = seq - 1 WHERE seq > 2")
}

func TestVerifyAuditOfOtherStates(t *testing.T) {
	dir := t.TempDir()
	if _, err := VerifyAudit(t.Context(), dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no state: %v", err)
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n, err := VerifyAudit(t.Context(), dir); err != nil || n != 0 {
		t.Errorf("an empty log: %d, %v", n, err)
	}
	if _, _, err := s.Admin(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.ResetAdmin("local:me"); err != nil {
		t.Fatal(err)
	}
	list, err := s.Audit(t.Context(), "", 0, 10)
	if err != nil || len(list) != 2 || list[0].Action != "admin.reset" || list[0].Actor != "local:me" || list[1].Action != "admin.create" || list[0].Prev != list[1].Hash {
		t.Errorf("Audit = %+v, %v", list, err)
	}
	if older, err := s.Audit(t.Context(), "admin", 2, 10); err != nil || len(older) != 1 || older[0].Seq != 1 {
		t.Errorf("Audit before 2 = %+v, %v", older, err)
	}
}

// TestStateOfAnOlderVersion: a file that has the admin key alone gets what it
// lacks.
func TestStateOfAnOlderVersion(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	admin, _, err := s.Admin()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"DROP TABLE audit", "DROP TABLE keys", "DELETE FROM secrets WHERE name = 'audit'"} {
		if _, err := s.db.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := VerifyAudit(t.Context(), dir); err != nil || n != 0 {
		t.Errorf("VerifyAudit of an older state = %d, %v", n, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := openSafe(t, dir)
	defer again.Close()
	if d, created, err := again.Admin(); err != nil || created != "" || d != admin || again.SetAside != "" {
		t.Errorf("Admin = %q, %v", created, err)
	}
	again.good("a key of it", again.create(Key{Name: "a"}), true)
	if n, err := VerifyAudit(t.Context(), dir); err != nil || n != 1 {
		t.Errorf("VerifyAudit = %d, %v", n, err)
	}
}
