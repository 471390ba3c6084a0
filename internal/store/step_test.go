package store

import (
	"testing"
	"time"
	_ "time/tzdata"
)

// Whatever the clock of a zone does, a step begins where its own times say, and
// is not cut into pieces.
func TestStepStart(t *testing.T) {
	for _, name := range []string{"UTC", "Europe/Berlin", "America/New_York", "America/Havana", "Asia/Kolkata", "Australia/Lord_Howe", "Asia/Beirut"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []Step{{Fixed: 2 * time.Hour}, {Fixed: 3 * time.Hour}, {Fixed: 6 * time.Hour}, {Fixed: 12 * time.Hour}} {
			starts := map[int64]bool{}
			from, to := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
			for at := from; at.Before(to); at = at.Add(7 * time.Minute) {
				start := s.Start(at, zone)
				starts[start.Unix()] = true
				if long := at.Sub(start); long < 0 || long > s.Fixed+time.Hour {
					t.Fatalf("%s: %v of %v begins at %v", name, s.Fixed, at.In(zone), start)
				}
			}
			if most := int(to.Sub(from)/s.Fixed) + 3; len(starts) > most {
				t.Errorf("%s: a year has %d steps of %v, at most %d are expected", name, len(starts), s.Fixed, most)
			}
		}
	}
}
