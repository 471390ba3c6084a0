package state

import (
	"context"
	"database/sql"
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

const spentSchema = `CREATE TABLE IF NOT EXISTS spent (
	rule TEXT NOT NULL, period TEXT NOT NULL, begins INTEGER NOT NULL, nano INTEGER NOT NULL, as_of INTEGER NOT NULL, PRIMARY KEY (rule, period)) WITHOUT ROWID`

// SaveSpent replaces what is known of each rule and period in the list.
func (s *State) SaveSpent(ctx context.Context, list []Spent) error {
	if len(list) == 0 {
		return nil
	}
	err := s.transact(ctx, func(tx *sql.Tx) error {
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
		return nil
	})
	if err != nil {
		return fmt.Errorf("state: budgets: %w", err)
	}
	return nil
}

// LoadSpent gives back all that was saved.
func (s *State) LoadSpent(ctx context.Context) ([]Spent, error) {
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
