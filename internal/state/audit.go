package state

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// An AuditEntry is one change of what gives access, or of what calls cost: who
// changed what, when, and what it was before and after. Neither holds a credential or its digest.
//
// Each entry holds the hash of the one before, so that nobody changes the past
// without changing all that followed; the head is kept apart, so that nobody
// cuts the end off.
type AuditEntry struct {
	Seq    int64 // from 1, without gaps
	At     time.Time
	Actor  string          // admin, admin (console), local:USER or server
	Action string          // key.create, key.update, key.rotate, key.revoke, key.forget, admin.create, admin.reset, admin.forget, prices.update or prices.recompute
	Object string          // key:NAME, admin or prices
	Before json.RawMessage // nil: there was nothing
	After  json.RawMessage // nil: there is nothing any more
	Prev   [sha256.Size]byte
	Hash   [sha256.Size]byte // of all of the above: see Sum
}

// Sum is SHA-256 over the entry's canonical bytes: the line "sheepgate audit 1",
// then seq, the time in Unix microseconds, actor, action, object, before and
// after, each as its length in decimal, a colon and its bytes, then the 32
// bytes of Prev.
func (e *AuditEntry) Sum() [sha256.Size]byte {
	b := []byte("sheepgate audit 1\n")
	for _, s := range []string{strconv.FormatInt(e.Seq, 10), strconv.FormatInt(e.At.UnixMicro(), 10), e.Actor, e.Action, e.Object, string(e.Before), string(e.After)} {
		b = strconv.AppendInt(b, int64(len(s)), 10)
		b = append(b, ':')
		b = append(b, s...)
	}
	return sha256.Sum256(append(b, e.Prev[:]...))
}

// The table refuses to be changed: an entry follows the last one, stays as it
// is and stays. (INSERT OR REPLACE deletes without the trigger of a deletion,
// so the order is guarded too.)
var auditSchema = []string{
	`CREATE TABLE IF NOT EXISTS audit (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
		object TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL, prev BLOB NOT NULL, hash BLOB NOT NULL)`,
	`CREATE TRIGGER IF NOT EXISTS audit_insert BEFORE INSERT ON audit WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM audit)
		BEGIN SELECT RAISE(ABORT, 'the audit log is only appended to'); END`,
	`CREATE TRIGGER IF NOT EXISTS audit_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is only appended to'); END`,
	`CREATE TRIGGER IF NOT EXISTS audit_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is only appended to'); END`,
}

// auditHead is the name of the secret that holds the last entry's hash.
const auditHead = "audit"

// audit appends an entry in tx. before and after are written as JSON, unless
// they are nil.
func audit(ctx context.Context, tx *sql.Tx, at time.Time, actor, action, object string, before, after any) error {
	e := AuditEntry{Seq: 1, At: at, Actor: actor, Action: action, Object: object}
	var err error
	for _, v := range []struct {
		from any
		to   *json.RawMessage
	}{{before, &e.Before}, {after, &e.After}} {
		if v.from != nil && err == nil {
			*v.to, err = json.Marshal(v.from)
		}
	}
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	var prev []byte
	switch err := tx.QueryRowContext(ctx, "SELECT seq + 1, hash FROM audit ORDER BY seq DESC LIMIT 1").Scan(&e.Seq, &prev); {
	case err == nil && len(prev) == len(e.Prev):
		copy(e.Prev[:], prev)
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("audit: %w", err)
	}
	e.Hash = e.Sum()
	if _, err := tx.ExecContext(ctx, "INSERT INTO audit (seq, at, actor, action, object, before, after, prev, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		e.Seq, e.At.UnixMicro(), e.Actor, e.Action, e.Object, string(e.Before), string(e.After), e.Prev[:], e.Hash[:]); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO secrets (name, value) VALUES (?, ?)", auditHead, e.Hash[:]); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

// Note appends an entry of what was done elsewhere. before and after are written
// as JSON, unless they are nil.
func (s *State) Note(ctx context.Context, actor, action, object string, before, after any) error {
	ctx = context.WithoutCancel(ctx)
	if err := s.transact(ctx, func(tx *sql.Tx) error {
		return audit(ctx, tx, time.Now().UTC().Truncate(time.Microsecond), actor, action, object, before, after)
	}); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}

const auditColumns = "SELECT seq, at, actor, action, object, before, after, prev, hash FROM audit "

func scanAudit(rows *sql.Rows) (*AuditEntry, error) {
	var (
		e             AuditEntry
		at            int64
		before, after string
		prev, hash    []byte
	)
	if err := rows.Scan(&e.Seq, &at, &e.Actor, &e.Action, &e.Object, &before, &after, &prev, &hash); err != nil {
		return nil, err
	}
	e.At = time.UnixMicro(at).UTC()
	if before != "" {
		e.Before = json.RawMessage(before)
	}
	if after != "" {
		e.After = json.RawMessage(after)
	}
	copy(e.Prev[:], prev)
	copy(e.Hash[:], hash)
	return &e, nil
}

// Audit lists entries, the newest first, those before the entry number before
// (0: from the end), of one object if it is not "".
func (s *State) Audit(ctx context.Context, object string, before int64, limit int) ([]*AuditEntry, error) {
	where, args := []string{"1"}, []any{}
	if before > 0 {
		where, args = append(where, "seq < ?"), append(args, before)
	}
	if object != "" {
		where, args = append(where, "object = ?"), append(args, object)
	}
	rows, err := s.db.QueryContext(ctx, auditColumns+"WHERE "+strings.Join(where, " AND ")+" ORDER BY seq DESC LIMIT ?", append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("state: audit: %w", err)
	}
	defer rows.Close()
	var list []*AuditEntry
	for rows.Next() {
		e, err := scanAudit(rows)
		if err != nil {
			return nil, fmt.Errorf("state: audit: %w", err)
		}
		list = append(list, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("state: audit: %w", err)
	}
	return list, nil
}

// A BrokenAudit says where the audit log was tampered with.
type BrokenAudit struct {
	Seq  int64 // of the first entry that is wrong, or missing
	What string
}

func (e *BrokenAudit) Error() string {
	return fmt.Sprintf("the audit log is broken at entry %d: %s", e.Seq, e.What)
}

// VerifyAudit goes through the audit log of the state in dir, beside whoever
// has it open, and says how many entries are right. The error is a BrokenAudit
// at the first one that is not, and fs.ErrNotExist if there is no state.
func VerifyAudit(ctx context.Context, dir string) (entries int64, err error) {
	db, err := readOnly(dir)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	var n int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'audit'").Scan(&n); err != nil {
		return 0, fmt.Errorf("state: %w", err)
	}
	if n == 0 { // of a version that had none
		return 0, nil
	}
	tx, err := db.BeginTx(ctx, nil) // the entries and the head of one moment
	if err != nil {
		return 0, fmt.Errorf("state: audit: %w", err)
	}
	defer tx.Rollback()
	rows, err := tx.QueryContext(ctx, auditColumns+"ORDER BY seq")
	if err != nil {
		return 0, fmt.Errorf("state: audit: %w", err)
	}
	defer rows.Close()
	var last [sha256.Size]byte
	for rows.Next() {
		e, err := scanAudit(rows)
		if err != nil {
			return entries, fmt.Errorf("state: audit: %w", err)
		}
		switch {
		case e.Seq != entries+1:
			return entries, &BrokenAudit{entries + 1, "it is missing"}
		case e.Prev != last:
			return entries, &BrokenAudit{e.Seq, "it does not follow the entry before"}
		case e.Hash != e.Sum():
			return entries, &BrokenAudit{e.Seq, "it is not what was written"}
		}
		last = e.Hash
		entries++
	}
	if err := rows.Err(); err != nil {
		return entries, fmt.Errorf("state: audit: %w", err)
	}
	var head []byte
	err = tx.QueryRowContext(ctx, "SELECT value FROM secrets WHERE name = ?", auditHead).Scan(&head)
	switch {
	case errors.Is(err, sql.ErrNoRows) && entries == 0:
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return entries, fmt.Errorf("state: audit: %w", err)
	case string(head) != string(last[:]):
		return entries, &BrokenAudit{entries + 1, "the log does not end with the entry that was written last"}
	}
	return entries, nil
}
