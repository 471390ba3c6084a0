package local

import "time"

// Sweep is what the store does every few minutes, at once.
func (s *Store) Sweep(now time.Time) error {
	s.upkeep.Lock()
	defer s.upkeep.Unlock()
	err := s.sweep(now)
	s.note("sweep", err)
	return err
}

// Tidy is what the store does every few seconds, at once.
func (s *Store) Tidy() bool {
	s.upkeep.Lock()
	defer s.upkeep.Unlock()
	return s.tidy()
}
