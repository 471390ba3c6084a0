package config

import (
	"slices"
	"strings"
	"testing"
)

func TestDiff(t *testing.T) {
	const base = "providers: { openai: , anthropic: }\nmodels: { a: { use: openai/x } }\nkeys: { k: { key: env:TEAM_A_KEY, limits: { rpm: 60 }, budget: $5/day } }\n"
	a, _ := parse(t, base)
	diff := func(text string, want ...string) {
		t.Helper()
		b, _ := parse(t, text)
		if got := Diff(a, b); !slices.Equal(got, want) {
			t.Errorf("Diff:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	diff(base)
	diff(strings.Replace(base, "rpm: 60", "rpm: 120", 1), "keys.k.limits.rpm: 60 → 120")
	diff(strings.Replace(base, ", budget: $5/day", ", models: [a, b]", 1), "keys.k.budget: [$5/day], gone", "keys.k.models: [a b], new")
	diff(strings.Replace(base, "openai: , anthropic:", "anthropic: , openai:", 1), "providers in the order: [openai anthropic] → [anthropic openai]")
	diff(strings.Replace(base, "keys: { k: ", "keys: { q: ", 1), "keys.k: set, gone", "keys.k.key: env:TEAM_A_KEY, gone", "keys.k.budget: [$5/day], gone", "keys.k.limits.rpm: 60, gone",
		"keys.q: set, new", "keys.q.key: env:TEAM_A_KEY, new", "keys.q.budget: [$5/day], new", "keys.q.limits.rpm: 60, new")
	secret := strings.Replace(base, "env:TEAM_A_KEY", "first-secret-0123456789", 1)
	a, _ = parse(t, secret)
	diff(strings.Replace(secret, "first", "other", 1), "keys.k.key: another secret at the same place")
	b, _ := parse(t, "listen: 127.0.0.1:1\ntimezone: Asia/Seoul\ntimeouts: { connect: 1s, idle: 2s }\n"+secret)
	if got := Fixed(a, b); !slices.Equal(got, []string{"listen", "timezone", "timeouts.connect"}) {
		t.Errorf("Fixed: %v", got)
	}
}
