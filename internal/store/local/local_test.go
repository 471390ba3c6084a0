package local

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/sheepgate/sheepgate/internal/store"
	"github.com/sheepgate/sheepgate/internal/store/storetest"
)

func TestStore(t *testing.T) {
	seeds := 10
	if testing.Short() || Raced {
		seeds = 3
	}
	if n, err := strconv.Atoi(os.Getenv("SHEEPGATE_SEEDS")); err == nil {
		seeds = n // a soak
	}
	storetest.Run(t, seeds, 150, func(t *testing.T) storetest.Engine {
		dir := filepath.Join(t.TempDir(), "calls")
		return storetest.Engine{
			Open: func(t *testing.T) store.Store {
				s, err := Open(dir, Options{SealRows: 700, Cache: 1 << 20})
				if err != nil {
					t.Fatal(err)
				}
				return s
			},
			Upkeep: func(t *testing.T, s store.Store, what int) {
				l := s.(*Store)
				if what == 0 {
					if err := l.Settle(t.Context()); err != nil {
						t.Fatal(err)
					}
					return
				}
				l.upkeep.Lock()
				defer l.upkeep.Unlock()
				if err := l.seal(); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}
