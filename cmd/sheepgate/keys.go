package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/config"
	"github.com/sheepgate/sheepgate/internal/gateway"
	"github.com/sheepgate/sheepgate/internal/state"
)

// applyKeys makes the keys of the configuration, the admin key and those that
// were made at run time the ones that are good, at once and as a whole.
func (s *server) applyKeys(ctx context.Context) {
	s.applying.Lock() // what was read last must be set last
	defer s.applying.Unlock()
	table := map[state.Digest]*call.Principal{}
	for _, k := range s.config.Keys {
		table[s.state.Digest(k.Key.Value())] = &call.Principal{Key: k.Name, Team: k.Team, Models: k.Models, Metrics: k.Metrics, Data: !k.Metrics}
	}
	var made []config.Key
	s.keys.Each(func(k *state.Key, d state.Digest, ends time.Time) {
		if _, taken := table[d]; taken {
			return // somebody wrote it into the configuration
		}
		c, err := runtimeKey(*k)
		if err != nil { // of another version's state.db: not good without what bounds it
			s.log.Error("a key cannot be used", "key", k.Name, "err", err)
			return
		}
		table[d] = &call.Principal{Key: c.Name, Team: c.Team, Models: c.Models, Expires: ends, Data: true}
		if len(made) == 0 || made[len(made)-1].Name != c.Name { // one in its grace has two credentials
			made = append(made, c)
		}
	})
	table[s.admin] = &call.Principal{Key: "admin", Admin: true, Metrics: true, Data: true}
	s.ring.Set(table)
	if s.keysChanged != nil {
		s.keysChanged(ctx, made)
	}
}

// runtimeKey is a key that was made at run time as the configuration would have
// it, but for its credential.
func runtimeKey(k state.Key) (config.Key, error) {
	c := config.Key{Name: k.Name, Team: k.Team, Models: k.Models, Limits: config.Limits{
		RPM: config.Count(k.Limits.RPM), TPM: config.Count(k.Limits.TPM), InputTPM: config.Count(k.Limits.InputTPM), OutputTPM: config.Count(k.Limits.OutputTPM), Concurrent: config.Count(k.Limits.Concurrent)}}
	for _, text := range k.Budget {
		b, err := config.ParseBudget(text)
		if err != nil {
			return c, &state.KeyError{Kind: state.KeyInvalid, Field: "budget", Msg: err.Error()}
		}
		if slices.ContainsFunc(c.Budget, func(o config.Budget) bool { return o.Period == b.Period }) {
			return c, &state.KeyError{Kind: state.KeyInvalid, Field: "budget", Msg: fmt.Sprintf("there are two amounts for a %s", b.Period)}
		}
		c.Budget = append(c.Budget, b)
	}
	return c, nil
}

// fixedKeys are the keys of a configuration as those of run time are listed.
func fixedKeys(c *config.Config) []state.Key {
	list := make([]state.Key, len(c.Keys))
	for i, k := range c.Keys {
		list[i] = state.Key{Name: k.Name, Team: k.Team, Models: k.Models, Metrics: k.Metrics,
			Limits: state.Limits{RPM: int64(k.Limits.RPM), TPM: int64(k.Limits.TPM), InputTPM: int64(k.Limits.InputTPM), OutputTPM: int64(k.Limits.OutputTPM), Concurrent: int64(k.Limits.Concurrent)}}
		for _, b := range k.Budget {
			list[i].Budget = append(list[i].Budget, b.String())
		}
	}
	return list
}

// keyCheck refuses what only a configuration can tell to be wrong: budgets that
// are none, and models that no call could name. One that a key has already may
// stay.
func keyCheck(now func() *gateway.Config) func(k, was *state.Key) error {
	return func(k, was *state.Key) error {
		if _, err := runtimeKey(*k); err != nil {
			return err
		}
		had := map[string]bool{}
		if was != nil {
			for _, m := range was.Models {
				had[m] = true
			}
		}
		for _, m := range k.Models {
			if msg, ok := now().Known(m); !ok && !had[m] {
				return &state.KeyError{Kind: state.KeyInvalid, Field: "models", Msg: msg}
			}
		}
		return nil
	}
}

// openKeys opens the keys in a state. now is the configuration in force.
func openKeys(s *state.State, c *config.Config, now func() *gateway.Config) (*state.Keys, error) {
	keys, err := s.OpenKeys(fixedKeys(c))
	if err != nil {
		return nil, err
	}
	keys.Check = keyCheck(now)
	return keys, nil
}

// takeKeys makes the keys of a configuration, and those of run time, the ones
// that are good. It returns the admin key if it was made just now.
func (s *server) takeKeys(ctx context.Context, c *config.Config) (created string, err error) {
	var admin state.Digest
	if c.AdminKey.Set() {
		admin = s.state.Digest(c.AdminKey.Value())
	} else if admin, created, err = s.state.Admin(); err != nil {
		return "", err
	}
	s.applying.Lock()
	s.config, s.admin = c, admin
	s.applying.Unlock()
	s.keys.SetFixed(fixedKeys(c))
	if hidden := s.keys.Hidden(); len(hidden) > 0 {
		s.log.Warn("keys that were made at run time are not good: the configuration has keys of their names", "keys", strings.Join(hidden[:min(len(hidden), 20)], ", "), "count", len(hidden))
	}
	s.applyKeys(ctx)
	return created, nil
}
