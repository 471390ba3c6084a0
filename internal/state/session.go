package state

import (
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
)

// maxSessions bounds the pages that are signed in; past it the one that ends
// first is signed out.
const maxSessions = 1000

// Sessions are the pages that are signed in, by the digest of their cookie.
// They hold the digest of the key they were begun with, never the key, and are
// looked up in the keyring each time: a key that is revoked ends its sessions
// at once. They outlive a restart.
type Sessions struct {
	ring *Keyring

	mu sync.Mutex
	by map[Digest]session
}

type session struct {
	key  Digest
	ends time.Time
}

// NewSessions reads the sessions that have not ended.
func (s *State) NewSessions(ring *Keyring) (*Sessions, error) {
	n := &Sessions{ring: ring, by: map[Digest]session{}}
	if _, err := s.db.Exec("CREATE TABLE IF NOT EXISTS sessions (id BLOB PRIMARY KEY, key BLOB NOT NULL, ends INTEGER NOT NULL)"); err != nil {
		return nil, fmt.Errorf("state: sessions: %w", err)
	}
	rows, err := s.db.Query("SELECT id, key, ends FROM sessions WHERE ends > ? ORDER BY ends DESC LIMIT ?", time.Now().Unix(), maxSessions)
	if err != nil {
		return nil, fmt.Errorf("state: sessions: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, key []byte
		var ends int64
		if err := rows.Scan(&id, &key, &ends); err != nil {
			return nil, fmt.Errorf("state: sessions: %w", err)
		}
		var d Digest
		var v session
		if len(id) == len(d) && len(key) == len(v.key) {
			copy(d[:], id)
			copy(v.key[:], key)
			v.ends = time.Unix(ends, 0)
			n.by[d] = v
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("state: sessions: %w", err)
	}
	return n, nil
}

// Start begins a session of the holder of secret and returns its id, which
// says nothing of the key. An error means that the session ends with the
// process; it is one all the same.
func (n *Sessions) Start(secret string, life time.Duration) (id string, err error) {
	now := time.Now()
	id = rand.Text()
	s := n.ring.state
	d, v := s.Digest(id), session{s.Digest(secret), now.Add(life)}
	n.mu.Lock()
	for k, x := range n.by {
		if !now.Before(x.ends) {
			delete(n.by, k)
		}
	}
	for len(n.by) >= maxSessions {
		var first Digest
		for k, x := range n.by {
			if y, ok := n.by[first]; !ok || x.ends.Before(y.ends) {
				first = k
			}
		}
		delete(n.by, first)
	}
	n.by[d] = v
	n.mu.Unlock()
	if _, err = s.db.Exec("DELETE FROM sessions WHERE ends <= ?", now.Unix()); err == nil {
		_, err = s.db.Exec("INSERT INTO sessions (id, key, ends) VALUES (?, ?, ?)", d[:], v.key[:], v.ends.Unix())
	}
	if err != nil {
		return id, fmt.Errorf("state: sessions: %w", err)
	}
	return id, nil
}

// Find is who the session belongs to.
func (n *Sessions) Find(id string) (*call.Principal, bool) {
	if id == "" || len(id) > maxSecret {
		return nil, false
	}
	n.mu.Lock()
	v, ok := n.by[n.ring.state.Digest(id)]
	n.mu.Unlock()
	if !ok || !time.Now().Before(v.ends) {
		return nil, false
	}
	return n.ring.holder(v.key)
}

// End ends a session, for good.
func (n *Sessions) End(id string) error {
	s := n.ring.state
	d := s.Digest(id)
	n.mu.Lock()
	delete(n.by, d)
	n.mu.Unlock()
	if _, err := s.db.Exec("DELETE FROM sessions WHERE id = ?", d[:]); err != nil {
		return fmt.Errorf("state: sessions: %w", err)
	}
	return nil
}
