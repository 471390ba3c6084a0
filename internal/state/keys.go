package state

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// MaxKeys bounds the keys that are kept. Past it those that were revoked first
// are forgotten, and their names are free again; a server has no more good ones
// than this.
const MaxKeys = 100_000

// Keys are the keys that are made while the server runs, and beside them those
// of the configuration, which are read only. Each change stands in state.db,
// with its entry in the audit log, before it is told.
type Keys struct {
	// Check says what else must be true of a key, beyond its form: what only
	// the server knows. was is the key before the change, nil for a new one.
	// nil means nothing.
	Check func(k, was *Key) error
	// Changed is called after a change and before it is told; nil means never.
	Changed func()

	state *State
	most  int
	write sync.Mutex // changes, one at a time

	mu    sync.Mutex
	list  []*Key          // by name; neither it nor a Key of it is ever changed
	fixed map[string]*Key // of the configuration
}

const keysSchema = `CREATE TABLE IF NOT EXISTS keys (name TEXT PRIMARY KEY, digest BLOB NOT NULL UNIQUE, last4 TEXT NOT NULL, old BLOB NOT NULL,
	settings TEXT NOT NULL, expires INTEGER NOT NULL, created INTEGER NOT NULL, rotated INTEGER NOT NULL, grace INTEGER NOT NULL, revoked INTEGER NOT NULL)`

// settings are the fields of a key that no question is asked about, as its row
// holds them.
type settings struct {
	Team     string            `json:"team,omitempty"`
	Models   []string          `json:"models,omitempty"`
	Limits   map[string]int64  `json:"limits,omitempty"`
	Budget   []string          `json:"budget,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

// fields are the limits by their names in the API.
func (l *Limits) fields() map[string]*int64 {
	return map[string]*int64{"rpm": &l.RPM, "tpm": &l.TPM, "input_tpm": &l.InputTPM, "output_tpm": &l.OutputTPM, "concurrent": &l.Concurrent}
}

// OpenKeys reads the keys. fixed are those of the configuration.
func (s *State) OpenKeys(fixed []Key) (*Keys, error) {
	n := &Keys{state: s, most: MaxKeys}
	n.SetFixed(fixed)
	return n, n.load(context.Background())
}

// SetFixed replaces the keys of the configuration. Nobody is told: whoever
// does it knows.
func (n *Keys) SetFixed(fixed []Key) {
	by := make(map[string]*Key, len(fixed))
	for _, k := range fixed {
		k.Fixed = true
		by[k.Name] = &k
	}
	n.mu.Lock()
	n.fixed = by
	n.mu.Unlock()
}

func (n *Keys) load(ctx context.Context) error {
	rows, err := n.state.db.QueryContext(ctx, "SELECT name, digest, last4, old, settings, expires, created, rotated, grace, revoked FROM keys")
	if err != nil {
		return fmt.Errorf("state: keys: %w", err)
	}
	defer rows.Close()
	var list []*Key
	for rows.Next() {
		k, err := scanKey(rows)
		if err != nil {
			return fmt.Errorf("state: keys: %w", err)
		}
		list = append(list, k)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("state: keys: %w", err)
	}
	slices.SortFunc(list, byName)
	n.mu.Lock()
	n.list = list
	n.mu.Unlock()
	return nil
}

func byName(a, b *Key) int { return cmp.Compare(a.Name, b.Name) }

func scanKey(rows *sql.Rows) (*Key, error) {
	var (
		k           Key
		digest, old []byte
		text        string
		times       [5]int64
	)
	if err := rows.Scan(&k.Name, &digest, &k.Last4, &old, &text, &times[0], &times[1], &times[2], &times[3], &times[4]); err != nil {
		return nil, err
	}
	var set settings
	if err := json.Unmarshal([]byte(text), &set); err != nil || len(digest) != len(k.digest) {
		return nil, fmt.Errorf("the row of %.60q cannot be read", k.Name)
	}
	copy(k.digest[:], digest)
	copy(k.old[:], old)
	k.Team, k.Models, k.Budget, k.Metadata = set.Team, set.Models, set.Budget, set.Metadata
	for name, to := range k.Limits.fields() {
		*to = set.Limits[name]
	}
	for i, to := range []*time.Time{&k.Expires, &k.Created, &k.Rotated, &k.Grace, &k.Revoked} {
		if times[i] != 0 {
			*to = time.UnixMicro(times[i]).UTC()
		}
	}
	return &k, nil
}

// put writes the row of k.
func put(ctx context.Context, tx *sql.Tx, k *Key) error {
	set := settings{Team: k.Team, Models: k.Models, Budget: k.Budget, Metadata: k.Metadata, Limits: map[string]int64{}}
	for name, n := range k.Limits.fields() {
		if *n != 0 {
			set.Limits[name] = *n
		}
	}
	text, err := json.Marshal(set)
	if err != nil {
		return err
	}
	micro := func(t time.Time) int64 {
		if t.IsZero() {
			return 0
		}
		return t.UnixMicro()
	}
	_, err = tx.ExecContext(ctx, "INSERT OR REPLACE INTO keys (name, digest, last4, old, settings, expires, created, rotated, grace, revoked) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		k.Name, k.digest[:], k.Last4, k.old[:], string(text), micro(k.Expires), micro(k.Created), micro(k.Rotated), micro(k.Grace), micro(k.Revoked))
	return err
}

// All lists every key, those of the configuration too, by name. A key of the
// configuration hides one of the same name. They are not to be changed.
func (n *Keys) All() []*Key {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]*Key, 0, len(n.list)+len(n.fixed))
	for _, k := range n.list {
		if n.fixed[k.Name] == nil {
			all = append(all, k)
		}
	}
	for _, k := range n.fixed {
		all = append(all, k)
	}
	slices.SortFunc(all, byName)
	return all
}

// Get finds a key by its name.
func (n *Keys) Get(name string) (*Key, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if k := n.fixed[name]; k != nil {
		return k, true
	}
	return n.find(name)
}

// find looks for a key that is not fixed. n.mu is held.
func (n *Keys) find(name string) (*Key, bool) {
	i, ok := slices.BinarySearchFunc(n.list, name, func(k *Key, name string) int { return strings.Compare(k.Name, name) })
	if !ok {
		return nil, false
	}
	return n.list[i], true
}

// Each calls f with every credential that is good: with its key, its digest
// and when it ends, zero for never. Names that the configuration has taken are
// left out.
func (n *Keys) Each(f func(k *Key, d Digest, ends time.Time)) {
	n.mu.Lock()
	list, fixed := n.list, n.fixed
	n.mu.Unlock()
	now := time.Now()
	for _, k := range list {
		if fixed[k.Name] != nil || k.State(now) != KeyActive {
			continue
		}
		f(k, k.digest, k.Expires)
		if now.Before(k.Grace) {
			ends := k.Grace
			if !k.Expires.IsZero() && k.Expires.Before(ends) {
				ends = k.Expires
			}
			f(k, k.old, ends)
		}
	}
}

// Hidden are the names of keys that the configuration has taken: their
// credentials are not good.
func (n *Keys) Hidden() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var names []string
	for _, k := range n.list {
		if n.fixed[k.Name] != nil && k.Revoked.IsZero() {
			names = append(names, k.Name)
		}
	}
	return names
}

// Create makes a key with the settings of k and returns its credential, which
// is kept nowhere. actor is whom the audit log names.
func (n *Keys) Create(ctx context.Context, actor string, k Key) (made *Key, secret string, err error) {
	n.write.Lock()
	defer n.write.Unlock()
	now := time.Now().UTC().Truncate(time.Microsecond)
	secret = NewKey()
	k = Key{Name: k.Name, Team: k.Team, Models: slices.Clone(k.Models), Limits: k.Limits, Budget: slices.Clone(k.Budget), Metadata: maps.Clone(k.Metadata),
		Expires: k.Expires.UTC().Truncate(time.Microsecond), Created: now, Last4: secret[len(secret)-4:], digest: n.state.Digest(secret)}
	if err := n.check(&k, nil, now); err != nil {
		return nil, "", err
	}
	n.mu.Lock()
	there, taken := n.find(k.Name)
	_, fixed := n.fixed[k.Name]
	var gone *Key
	full := len(n.list) >= n.most
	if full {
		for _, k := range n.list {
			if !k.Revoked.IsZero() && (gone == nil || k.Revoked.Before(gone.Revoked)) {
				gone = k
			}
		}
	}
	n.mu.Unlock()
	switch {
	case fixed:
		return nil, "", &KeyError{KeyConflict, "name", fmt.Sprintf("the configuration has a key %q", k.Name)}
	case taken && !there.Revoked.IsZero():
		return nil, "", &KeyError{KeyConflict, "name", fmt.Sprintf("there was a key %q, and its calls carry the name: take another one", k.Name)}
	case taken:
		return nil, "", &KeyError{KeyConflict, "name", fmt.Sprintf("there is a key %q", k.Name)}
	case full && gone == nil:
		return nil, "", &KeyError{KeyConflict, "", fmt.Sprintf("there are %d keys, and more are not kept: revoke one", n.most)}
	}
	if err := n.change(ctx, now, actor, "key.create", nil, &k, gone); err != nil {
		return nil, "", err
	}
	return &k, secret, nil
}

// Update lets edit change the settings of a key: Team, Models, Limits, Budget,
// Metadata and Expires. What else it changes stays as it was.
func (n *Keys) Update(ctx context.Context, actor, name string, edit func(*Key) error) (*Key, error) {
	n.write.Lock()
	defer n.write.Unlock()
	was, err := n.own(name)
	if err != nil {
		return nil, err
	}
	if !was.Revoked.IsZero() {
		return nil, revoked(name)
	}
	wish := *was
	wish.Models, wish.Budget, wish.Metadata = slices.Clone(was.Models), slices.Clone(was.Budget), maps.Clone(was.Metadata)
	if err := edit(&wish); err != nil {
		return nil, err
	}
	k := *was
	k.Team, k.Models, k.Limits, k.Budget, k.Metadata, k.Expires = wish.Team, wish.Models, wish.Limits, wish.Budget, wish.Metadata, wish.Expires.UTC().Truncate(time.Microsecond)
	now := time.Now().UTC().Truncate(time.Microsecond)
	if err := n.check(&k, was, now); err != nil {
		return nil, err
	}
	if err := n.change(ctx, now, actor, "key.update", was, &k, nil); err != nil {
		return nil, err
	}
	return &k, nil
}

// Rotate gives a key a new credential, which it returns. The old one ends at
// once, or is good for grace longer; an even older one ends in either case.
func (n *Keys) Rotate(ctx context.Context, actor, name string, grace time.Duration) (k *Key, secret string, err error) {
	n.write.Lock()
	defer n.write.Unlock()
	was, err := n.own(name)
	if err != nil {
		return nil, "", err
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	switch {
	case grace < 0 || grace > maxGrace:
		return nil, "", invalid("grace", "the old credential can be good for at most %d more days", int(maxGrace/(24*time.Hour)))
	case was.State(now) == KeyRevoked:
		return nil, "", revoked(name)
	case was.State(now) == KeyExpired:
		return nil, "", &KeyError{KeyConflict, "expires_at", fmt.Sprintf("the key %q has expired: set a later expires_at first", name)}
	}
	secret = NewKey()
	next := *was
	next.digest, next.Last4, next.Rotated = n.state.Digest(secret), secret[len(secret)-4:], now
	next.old, next.Grace = Digest{}, time.Time{}
	if grace > 0 {
		next.old, next.Grace = was.digest, now.Add(grace)
	}
	if err := n.change(ctx, now, actor, "key.rotate", was, &next, nil); err != nil {
		return nil, "", err
	}
	return &next, secret, nil
}

// Revoke ends a key for good. One that was revoked stays as it is.
func (n *Keys) Revoke(ctx context.Context, actor, name string) (*Key, error) {
	n.write.Lock()
	defer n.write.Unlock()
	was, err := n.own(name)
	if err != nil || !was.Revoked.IsZero() {
		return was, err
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	k := *was
	k.Revoked, k.old, k.Grace = now, Digest{}, time.Time{}
	if err := n.change(ctx, now, actor, "key.revoke", was, &k, nil); err != nil {
		return nil, err
	}
	return &k, nil
}

func revoked(name string) error {
	return &KeyError{KeyConflict, "", fmt.Sprintf("the key %q was revoked, which is final: make another one", name)}
}

// own finds a key that may be changed here.
func (n *Keys) own(name string) (*Key, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fixed[name] != nil {
		return nil, &KeyError{KeyConflict, "", fmt.Sprintf("the key %q is set in the configuration: change it there", name)}
	}
	k, ok := n.find(name)
	if !ok {
		return nil, &KeyError{KeyNotFound, "", fmt.Sprintf("there is no key %.60q", name)}
	}
	return k, nil
}

func (n *Keys) check(k, was *Key, now time.Time) error {
	if err := k.check(was, now); err != nil {
		return err
	}
	if n.Check == nil {
		return nil
	}
	return n.Check(k, was)
}

// change writes k and its entry of the audit log in one transaction, and
// forgets the key gone, if there is one. n.write is held. Whoever asked may be
// gone meanwhile: a change is made as a whole.
func (n *Keys) change(ctx context.Context, at time.Time, actor, action string, was, k, gone *Key) error {
	ctx = context.WithoutCancel(ctx)
	err := n.state.transact(ctx, func(tx *sql.Tx) error {
		if gone != nil {
			if _, err := tx.ExecContext(ctx, "DELETE FROM keys WHERE name = ?", gone.Name); err != nil {
				return err
			}
			if err := audit(ctx, tx, at, "server", "key.forget", "key:"+gone.Name, gone, nil); err != nil {
				return err
			}
		}
		if err := put(ctx, tx, k); err != nil {
			return err
		}
		var before any
		if was != nil {
			before = was
		}
		return audit(ctx, tx, at, actor, action, "key:"+k.Name, before, k)
	})
	if err != nil {
		if lerr := n.load(ctx); lerr == nil && n.Changed != nil {
			n.Changed() // whether it was written is not known: what is there counts
		}
		return fmt.Errorf("state: keys: %w", err)
	}
	n.mu.Lock()
	list := make([]*Key, 0, len(n.list)+1)
	for _, x := range n.list {
		if x.Name != k.Name && x != gone {
			list = append(list, x)
		}
	}
	i, _ := slices.BinarySearchFunc(list, k, byName)
	n.list = slices.Insert(list, i, k)
	n.mu.Unlock()
	if n.Changed != nil {
		n.Changed()
	}
	return nil
}

// transact makes a change as a whole, or not at all.
func (s *State) transact(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}
