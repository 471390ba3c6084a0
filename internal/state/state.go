// Package state keeps what is neither a Call nor configuration: the admin key's
// digest, the pepper that digests are made with, the sessions of pages, the keys
// that are made while the server runs (Keys) and the audit log of every change
// of those. Keyring is what the doors of the product check credentials against.
//
// No credential is ever stored or held in memory after it was checked: only
// HMAC-SHA256 digests are.
package state

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base32"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/sheepgate/sheepgate/internal/call"
)

// A State is the file state.db in the data folder.
type State struct {
	SetAside string // what a state.db that could not be read is called now; "" if it could

	db     *sql.DB
	pepper []byte
	macs   sync.Pool // of hash.Hash keyed with pepper: keying costs more than digesting
}

// Open opens or makes the state in dir. A file that is no readable database is
// set aside and the state begun anew: what is served does not depend on it,
// and whoever starts the server learns of the new admin key.
func Open(dir string) (*State, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	path := filepath.Join(dir, "state.db")
	s, err := open(path)
	if damaged(path, err) {
		aside := fmt.Sprintf("%s.%d.quarantine", path, time.Now().UnixMilli())
		for _, side := range sides {
			if err := os.Rename(path+side, aside+side); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("state: %w", err)
			}
		}
		if s, err = open(path); err == nil {
			s.SetAside = aside
		}
	}
	if err != nil {
		return nil, fmt.Errorf("state: %s: %w", path, err)
	}
	return s, nil
}

// Copy writes the state in dir, as it is at one moment, to a new file, beside
// whoever has it open. It says fs.ErrNotExist if there is none.
func Copy(ctx context.Context, dir, to string) error {
	db, err := readOnly(dir)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", to); err != nil {
		return fmt.Errorf("state: %s: %w", filepath.Join(dir, "state.db"), err)
	}
	return nil
}

// Inspect looks at the state in dir, beside whoever has it open: whether it can
// be read and holds an admin key. It says fs.ErrNotExist if there is none.
func Inspect(ctx context.Context, dir string) (admin bool, err error) {
	db, err := readOnly(dir)
	if err != nil {
		return false, err
	}
	defer db.Close()
	var check string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&check); err != nil {
		return false, fmt.Errorf("state: %w", err)
	}
	if check != "ok" {
		return false, fmt.Errorf("state: %w: %s", errDamaged, check)
	}
	var n int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM secrets WHERE name = 'admin'").Scan(&n); err != nil {
		return false, fmt.Errorf("state: %w", err)
	}
	return n > 0, nil
}

func readOnly(dir string) (*sql.DB, error) {
	path := filepath.Join(dir, "state.db")
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(5000)")
	if err == nil {
		db.SetMaxOpenConns(1)
	}
	return db, err
}

// sides are the ends of the names of SQLite's files.
var sides = []string{"", "-wal", "-shm"}

func open(path string) (*State, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=cache_size(-400)&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	s := &State{db: db}
	s.macs.New = func() any { return hmac.New(sha256.New, s.pepper) }
	if err := s.init(); err != nil {
		db.Close()
		return nil, err
	}
	return s, nil
}

var errDamaged = errors.New("the database is damaged")

// damaged reports whether err says that the file at path is no readable
// database. One that may not be read, or not now, is none of that.
func damaged(path string, err error) bool {
	if err == nil {
		return false
	}
	for _, side := range sides {
		if st, serr := os.Stat(path + side); serr == nil && st.IsDir() {
			return true
		}
	}
	if errors.Is(err, errDamaged) {
		return true
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	code := e.Code() & 0xff // without the extended part
	return code == sqlite3.SQLITE_NOTADB || code == sqlite3.SQLITE_CORRUPT
}

func (s *State) init() error {
	// Tables are only added: a file of an older version gets what it lacks.
	for _, text := range append([]string{"CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL)", keysSchema, spentSchema}, auditSchema...) {
		if _, err := s.db.Exec(text); err != nil {
			return err
		}
	}
	var check string
	if err := s.db.QueryRow("PRAGMA quick_check(1)").Scan(&check); err != nil {
		return err
	}
	if check != "ok" {
		return fmt.Errorf("%w: %s", errDamaged, check)
	}
	pepper := make([]byte, 32)
	rand.Read(pepper)
	if _, err := s.db.Exec("INSERT INTO secrets (name, value) VALUES ('pepper', ?) ON CONFLICT DO NOTHING", pepper); err != nil {
		return err
	}
	if err := s.db.QueryRow("SELECT value FROM secrets WHERE name = 'pepper'").Scan(&s.pepper); err != nil {
		return err
	}
	return s.settle()
}

// settle moves what was written out of the log, which alone would hold it.
func (s *State) settle() error {
	_, err := s.db.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}

// Close closes the file.
func (s *State) Close() error { return s.db.Close() }

// Admin gives the digest of the admin key. At the first start it makes the key
// and returns it too, this once.
func (s *State) Admin() (d Digest, created string, err error) {
	var b []byte
	switch err = s.db.QueryRow("SELECT value FROM secrets WHERE name = 'admin'").Scan(&b); {
	case err == nil && len(b) == len(d):
		copy(d[:], b)
		return d, "", nil
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return d, "", fmt.Errorf("state: admin key: %w", err)
	}
	return s.newAdmin("server", "admin.create")
}

// ResetAdmin makes a new admin key; the old one is no key any more. actor is
// whom the audit log names.
func (s *State) ResetAdmin(actor string) (d Digest, created string, err error) {
	return s.newAdmin(actor, "admin.reset")
}

func (s *State) newAdmin(actor, action string) (d Digest, created string, err error) {
	created = NewKey()
	d = s.Digest(created)
	ctx := context.Background()
	if err := s.transact(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO secrets (name, value) VALUES ('admin', ?)", d[:]); err != nil {
			return err
		}
		return audit(ctx, tx, time.Now().UTC().Truncate(time.Microsecond), actor, action, "admin", nil, nil)
	}); err != nil {
		return d, "", fmt.Errorf("state: admin key: %w", err)
	}
	if err := s.settle(); err != nil {
		return d, "", fmt.Errorf("state: admin key: %w", err)
	}
	return d, created, nil
}

// ForgetAdmin drops an admin key that was made and could not be shown to anybody:
// the next start makes another.
func (s *State) ForgetAdmin() error {
	ctx := context.Background()
	err := s.transact(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM secrets WHERE name = 'admin'"); err != nil {
			return err
		}
		return audit(ctx, tx, time.Now().UTC().Truncate(time.Microsecond), "server", "admin.forget", "admin", nil, nil)
	})
	if err != nil {
		return fmt.Errorf("state: admin key: %w", err)
	}
	return nil
}

// NewKey makes a credential of 32 random bytes.
func NewKey() string {
	b := make([]byte, 32)
	rand.Read(b)
	return "sg-" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

// A Digest is HMAC-SHA256 of a credential under the pepper.
type Digest [sha256.Size]byte

// Digest digests a credential.
func (s *State) Digest(secret string) (d Digest) {
	h := s.macs.Get().(hash.Hash)
	h.Reset()
	h.Write([]byte(secret))
	h.Sum(d[:0])
	s.macs.Put(h)
	return d
}

// A Keyring checks credentials. Its table is replaced as a whole.
type Keyring struct {
	state *State
	table atomic.Pointer[map[Digest]*call.Principal]
}

// NewKeyring makes an empty Keyring.
func (s *State) NewKeyring() *Keyring {
	k := &Keyring{state: s}
	k.Set(map[Digest]*call.Principal{})
	return k
}

// Set replaces the table, which must not change afterwards.
func (k *Keyring) Set(table map[Digest]*call.Principal) { k.table.Store(&table) }

// maxSecret bounds what is digested, in bytes.
const maxSecret = 512

// Find is a call.Auth. What is looked up is a digest that only the holder of
// the pepper can aim, so the time of a look-up tells nothing of a key.
func (k *Keyring) Find(secret string) (*call.Principal, bool) {
	if secret == "" || len(secret) > maxSecret {
		return nil, false
	}
	return k.holder(k.state.Digest(secret))
}

// holder is who holds the credential with a digest, if it is good now.
func (k *Keyring) holder(d Digest) (*call.Principal, bool) {
	p, ok := (*k.table.Load())[d]
	if !ok || !p.Expires.IsZero() && !time.Now().Before(p.Expires) {
		return nil, false
	}
	return p, true
}
