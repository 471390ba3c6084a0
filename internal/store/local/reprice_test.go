package local_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/store"
	"github.com/sheepgate/sheepgate/internal/store/local"
)

func priced(day, n int) []*call.Call {
	var list []*call.Call
	for i := range n {
		at := time.Now().UTC().Truncate(24 * time.Hour).Add(time.Duration(day)*24*time.Hour + time.Duration(i)*time.Millisecond)
		list = append(list, &call.Call{ID: call.NewID(at), StartedAt: at, Origin: call.OriginClient, Provider: "openai", Model: "gpt-4.1", Status: call.Success, HTTPStatus: 200,
			Usage: llm.Usage{Source: llm.UsageUpstream, Input: 1}, Cost: 1, Attempts: []call.Attempt{{Provider: "openai", Model: "gpt-4.1", HTTPStatus: 200, Cost: 1}}, Tags: map[string]string{"n": fmt.Sprint(i % 5)}})
	}
	return list
}

// raise lets every Call cost at least n.
func raise(n llm.Nano) func(*call.Call) bool {
	return func(c *call.Call) bool {
		if c.Cost >= n {
			return false
		}
		c.Cost, c.PriceRow, c.Attempts[0].Cost = n, fmt.Sprintf("openai/gpt-4.1/standard/%d", n), n
		return true
	}
}

// agree compares the sums of a query, over all and by tag, with the Calls.
func agree(t *testing.T, s store.Store, want int) (cost int64) {
	t.Helper()
	n := 0
	for q := (store.List{Limit: store.MaxPage}); ; {
		page, err := s.List(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page.Calls {
			n++
			cost += int64(c.Cost)
			if c.Attempts[0].Cost != c.Cost || c.Cost > 1 && c.PriceRow != fmt.Sprintf("openai/gpt-4.1/standard/%d", c.Cost) || c.Tags["n"] == "" {
				t.Fatalf("half a change: %+v", c)
			}
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			break
		}
	}
	for _, by := range [][]string{nil, {"model"}, {"tag:n"}} {
		r, err := s.Query(t.Context(), store.Query{From: time.Now().Add(-240 * time.Hour), To: time.Now().Add(240 * time.Hour), GroupBy: by, Measures: []string{"requests", "cost_nano_usd"}})
		if err != nil {
			t.Fatal(err)
		}
		if n != want || r.Total[0].Int != int64(n) || r.Total[1].Int != cost {
			t.Errorf("by %v a query says %d calls and %d, the list %d and %d; %d were stored", by, r.Total[0].Int, r.Total[1].Int, n, cost, want)
		}
	}
	return cost
}

// TestRepriceRebuilt: a manifest that is made anew from the files knows which
// file took the place of which.
func TestRepriceRebuilt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "calls")
	s, err := local.Open(dir, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Import(t.Context(), priced(-2, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	old, _ := filepath.Glob(filepath.Join(dir, "calls-*.parquet"))
	if len(old) != 1 {
		t.Fatalf("files %v", old)
	}
	bytes, err := os.ReadFile(old[0])
	if err != nil {
		t.Fatal(err)
	}
	if res, err := s.Reprice(t.Context(), store.Repricing{Price: raise(7)}); err != nil || len(res) != 1 || res[0] != (store.Repriced{Provider: "openai", Model: "gpt-4.1", Calls: 1000, Changed: 1000, Old: 1000, New: 7000}) {
		t.Fatalf("reprice: %+v, %v", res, err)
	}
	if _, err := os.Stat(old[0]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old file: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(old[0], bytes, 0o600); err != nil { // as if it had not been deleted
		t.Fatal(err)
	}
	for _, side := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(filepath.Join(dir, "tail.db"+side))
	}
	if s, err = local.Open(dir, local.Options{}); err != nil {
		t.Fatal(err)
	}
	if got := agree(t, s, 1000); got != 7000 {
		t.Errorf("the calls cost %d, want 7000", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reprice(t.Context(), store.Repricing{Price: raise(8)}); err == nil {
		t.Error("a store that is closed was repriced")
	}
}

// TestRepriceBeside: while Calls come, are sealed, merged, deleted, copied and
// asked for, each keeps a whole cost, and in the end all have the new one.
func TestRepriceBeside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "calls")
	s, err := local.Open(dir, local.Options{SealRows: 500})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	beside := func(f func() error) {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := f(); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	stored := 0
	wg.Go(func() {
		defer cancel()
		for i := range 40 {
			calls := priced(-i%3, 150)
			n, err := s.Import(t.Context(), calls)
			if err != nil {
				t.Error(err)
				return
			}
			stored += n
		}
	})
	beside(func() error { s.Tidy(); return nil })
	beside(func() error { time.Sleep(10 * time.Millisecond); return s.Settle(ctx) })
	beside(func() error { return s.Sweep(time.Now()) })
	beside(func() error {
		_, err := s.Query(ctx, store.Query{From: time.Now().Add(-240 * time.Hour), To: time.Now().Add(240 * time.Hour), GroupBy: []string{"model"}, Measures: []string{"cost_nano_usd"}})
		return err
	})
	tmp := t.TempDir()
	beside(func() error {
		missing, err := local.Copy(ctx, dir, tmp, func(string, *os.File) error { return nil })
		if len(missing) > 0 {
			return fmt.Errorf("a copy misses %v", missing)
		}
		return err
	})
	level := llm.Nano(1)
	beside(func() error {
		level++
		_, err := s.Reprice(ctx, store.Repricing{Price: raise(level)})
		if errors.Is(err, store.ErrBusy) {
			err = errors.New("busy with nobody")
		}
		return err
	})
	wg.Wait()
	if _, err := s.Reprice(t.Context(), store.Repricing{Price: raise(1000)}); err != nil {
		t.Fatal(err)
	}
	if got := agree(t, s, stored); got != int64(stored)*1000 {
		t.Errorf("%d calls cost %d", stored, got)
	}
	if err := errors.Join(s.Settle(t.Context()), s.Health()); err != nil {
		t.Error(err)
	}
	agree(t, s, stored)
}

// TestRepriceEnds: one whose caller is gone stops, and what it says is what it did.
func TestRepriceEnds(t *testing.T) {
	s, err := local.Open(filepath.Join(t.TempDir(), "calls"), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for day := range 3 {
		if _, err := s.Import(t.Context(), priced(-day, 100)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	res, err := s.Reprice(ctx, store.Repricing{Price: raise(5), Progress: func(int64) { cancel() }})
	if !errors.Is(err, context.Canceled) || len(res) != 1 || res[0].Changed != 100 {
		t.Errorf("an ended one: %+v, %v", res, err)
	}
	if got := agree(t, s, 300); got != 100*5+200 {
		t.Errorf("the calls cost %d", got)
	}
	if res, err = s.Reprice(t.Context(), store.Repricing{Price: raise(5)}); err != nil || res[0].Changed != 200 || agree(t, s, 300) != 1500 {
		t.Errorf("the rest: %+v, %v", res, err)
	}
}
