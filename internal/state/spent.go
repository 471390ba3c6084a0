package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// A Spent is what a budget's rule had spent in a period when it was saved.
type Spent struct {
	Rule   string
	Period string    // day, week, month or total
	From   time.Time // the period's begin; zero for total
	Nano   int64     // nano-USD
	AsOf   time.Time // calls that ended before this are in it
}

const spentTable = `CREATE TABLE IF NOT EXISTS spent (
	rule TEXT NOT NULL, period TEXT NOT NULL, begins INTEGER NOT NULL, nano INTEGER NOT NULL, as_of INTEGER NOT NULL, PRIMARY KEY (rule, period)) WITHOUT ROWID`

// SaveSpent replaces what is known of each rule and period in the list.
func (s *State) SaveSpent(ctx context.Context, list []Spent) (err error) {
	if len(list) == 0 {
		return nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("state: budgets: %w", err)
		}
	}()
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ignoreDone(tx.Rollback())) }()
	if _, err := tx.ExecContext(ctx, spentTable); err != nil {
		return err
	}
	for _, r := range list {
		begins := int64(0)
		if !r.From.IsZero() {
			begins = r.From.Unix()
		}
		if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO spent (rule, period, begins, nano, as_of) VALUES (?, ?, ?, ?, ?)",
			r.Rule, r.Period, begins, r.Nano, r.AsOf.UnixMicro()); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// LoadSpent gives back all that was saved.
func (s *State) LoadSpent(ctx context.Context) ([]Spent, error) {
	if _, err := s.db.ExecContext(ctx, spentTable); err != nil {
		return nil, fmt.Errorf("state: budgets: %w", err)
	}
	rows, err := s.db.QueryContext(ctx, "SELECT rule, period, begins, nano, as_of FROM spent")
	if err != nil {
		return nil, fmt.Errorf("state: budgets: %w", err)
	}
	defer rows.Close()
	var list []Spent
	for rows.Next() {
		var r Spent
		var begins, asOf int64
		if err := rows.Scan(&r.Rule, &r.Period, &begins, &r.Nano, &asOf); err != nil {
			return nil, fmt.Errorf("state: budgets: %w", err)
		}
		if begins != 0 {
			r.From = time.Unix(begins, 0)
		}
		r.AsOf = time.UnixMicro(asOf)
		list = append(list, r)
	}
	return list, rows.Err()
}

// ignoreDone drops the error of a rollback after a commit.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}
