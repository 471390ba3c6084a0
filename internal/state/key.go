package state

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// A Key is a key of the API: one that was made while the server runs, or, if
// Fixed, one of the configuration. Of the credential it holds the last four
// characters; the digests are not for others to see.
type Key struct {
	Name     string
	Fixed    bool   // of the configuration: it can be changed there only
	Metrics  bool   // may read /v1/metrics and nothing else; of the configuration only
	Last4    string // the last characters of the credential; "" of a fixed key
	Team     string
	Models   []string          // aliases and models it may use; empty means all
	Limits   Limits            // zero means none
	Budget   []string          // each as the configuration writes it: $200/month
	Metadata map[string]string // the owner's own notes
	Expires  time.Time         // good before; zero means for ever
	Created  time.Time
	Rotated  time.Time // when it got the credential it has; zero if that is the first
	Grace    time.Time // the credential before that is good until then; zero means it is not
	Revoked  time.Time // zero if it was not

	digest, old Digest
}

// Limits bound what a key may ask for. Zero means no limit.
type Limits struct {
	RPM        int64 // requests a minute
	TPM        int64 // tokens a minute, input and output together
	InputTPM   int64
	OutputTPM  int64
	Concurrent int64 // requests at the same time
}

// The states of a key.
const (
	KeyActive  = "active"
	KeyExpired = "expired"
	KeyRevoked = "revoked"
)

// State says whether the key is good at a time.
func (k *Key) State(at time.Time) string {
	switch {
	case !k.Revoked.IsZero():
		return KeyRevoked
	case !k.Expires.IsZero() && !at.Before(k.Expires):
		return KeyExpired
	}
	return KeyActive
}

// A keyJSON is a Key as the API and the audit log write it.
type keyJSON struct {
	Name     string            `json:"name"`
	Source   string            `json:"source"` // config or runtime
	State    string            `json:"state"`
	Metrics  bool              `json:"metrics"`
	Last4    string            `json:"last4"`
	Team     string            `json:"team"`
	Models   []string          `json:"models"`
	Limits   limitsJSON        `json:"limits"`
	Budget   []string          `json:"budget"`
	Metadata map[string]string `json:"metadata"`
	Expires  *time.Time        `json:"expires_at"`
	Created  *time.Time        `json:"created_at"`
	Rotated  *time.Time        `json:"rotated_at"`
	Grace    *time.Time        `json:"grace_until"`
	Revoked  *time.Time        `json:"revoked_at"`
}

type limitsJSON struct {
	RPM        *int64 `json:"rpm"`
	TPM        *int64 `json:"tpm"`
	InputTPM   *int64 `json:"input_tpm"`
	OutputTPM  *int64 `json:"output_tpm"`
	Concurrent *int64 `json:"concurrent"`
}

// MarshalJSON writes everything but the digests; what there is not is null.
func (k *Key) MarshalJSON() ([]byte, error) {
	source := "runtime"
	if k.Fixed {
		source = "config"
	}
	return json.Marshal(keyJSON{
		Name: k.Name, Source: source, State: k.State(time.Now()), Metrics: k.Metrics, Last4: k.Last4, Team: k.Team, Models: append([]string{}, k.Models...),
		Limits: k.Limits.json(), Budget: append([]string{}, k.Budget...), Metadata: notNil(k.Metadata),
		Expires: timeOrNil(k.Expires), Created: timeOrNil(k.Created), Rotated: timeOrNil(k.Rotated), Grace: timeOrNil(k.Grace), Revoked: timeOrNil(k.Revoked),
	})
}

// MarshalJSON writes what is no limit as null.
func (l Limits) MarshalJSON() ([]byte, error) { return json.Marshal(l.json()) }

func (l Limits) json() limitsJSON {
	n := func(n int64) *int64 {
		if n == 0 {
			return nil
		}
		return &n
	}
	return limitsJSON{n(l.RPM), n(l.TPM), n(l.InputTPM), n(l.OutputTPM), n(l.Concurrent)}
}

func notNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// A KeyError says what is wrong with a wish about a key; it is fit to be shown.
type KeyError struct {
	Kind  KeyErrorKind
	Field string // as the API names it; "" if none is at fault
	Msg   string
}

func (e *KeyError) Error() string { return e.Msg }

// A KeyErrorKind says what of a wish about a key is wrong.
type KeyErrorKind uint8

// The kinds.
const (
	KeyInvalid  KeyErrorKind = iota // a field
	KeyConflict                     // it does not go with what there is
	KeyNotFound                     // there is no such key
)

func invalid(field, format string, args ...any) error {
	return &KeyError{KeyInvalid, field, fmt.Sprintf(format, args...)}
}

// Bounds of a key's fields, in bytes and entries.
const (
	maxName     = 200
	maxModels   = 200
	maxModel    = 256
	maxBudgets  = 8
	maxBudget   = 64
	maxMetadata = 32
	maxMetaKey  = 64
	maxMetaText = 512
	maxLimit    = 1e15
	maxLife     = 100 * 366 * 24 * time.Hour
	maxGrace    = 30 * 24 * time.Hour
)

// printable reports whether s is text of at most n bytes without control
// characters.
func printable(s string, n int) bool {
	return len(s) <= n && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError })
}

// checkName refuses what the configuration would, and what an address or the
// admin's own Calls could be taken for.
func checkName(name string) error {
	switch {
	case name == "" || !printable(name, maxName):
		return invalid("name", "%.60q is not a name: 1 to %d printable characters", name, maxName)
	case strings.TrimSpace(name) != name || name == "." || name == "..":
		return invalid("name", "%q is not a name: it would be mistaken for another one", name)
	case name == "admin":
		return invalid("name", "admin is the name of the admin key")
	}
	return nil
}

// check says what is wrong with the form of a key. was is the key before, nil
// for a new one: an expiry that stays as it is may lie in the past.
func (k *Key) check(was *Key, now time.Time) error {
	if err := checkName(k.Name); err != nil {
		return err
	}
	if !printable(k.Team, maxName) {
		return invalid("team", "%.60q is not a team: at most %d printable characters", k.Team, maxName)
	}
	if len(k.Models) > maxModels {
		return invalid("models", "there are more than %d models", maxModels)
	}
	for i, m := range k.Models {
		if m == "" || !printable(m, maxModel) {
			return invalid("models", "%.60q is not a model: 1 to %d printable characters", m, maxModel)
		}
		if slices.Contains(k.Models[:i], m) {
			return invalid("models", "%.60q is there twice", m)
		}
	}
	for _, l := range []struct {
		field string
		n     int64
	}{{"limits.rpm", k.Limits.RPM}, {"limits.tpm", k.Limits.TPM}, {"limits.input_tpm", k.Limits.InputTPM}, {"limits.output_tpm", k.Limits.OutputTPM}, {"limits.concurrent", k.Limits.Concurrent}} {
		if l.n < 0 || l.n > maxLimit {
			return invalid(l.field, "%s is %d: write a whole number from 1 to 10^15, or none", l.field, l.n)
		}
	}
	if len(k.Budget) > maxBudgets {
		return invalid("budget", "there are more than %d budgets", maxBudgets)
	}
	for _, b := range k.Budget {
		if b == "" || !printable(b, maxBudget) {
			return invalid("budget", "%.60q is not a budget like $200/month", b)
		}
	}
	if len(k.Metadata) > maxMetadata {
		return invalid("metadata", "there are more than %d entries", maxMetadata)
	}
	for name, text := range k.Metadata {
		if name == "" || !printable(name, maxMetaKey) || !printable(text, maxMetaText) {
			return invalid("metadata", "the entry %.60q is not a name of 1 to %d and a text of at most %d printable characters", name, maxMetaKey, maxMetaText)
		}
	}
	if !k.Expires.IsZero() && (was == nil || !was.Expires.Equal(k.Expires)) {
		if !now.Before(k.Expires) {
			return invalid("expires_at", "%s lies in the past", k.Expires.UTC().Format(time.RFC3339))
		}
		if k.Expires.Sub(now) > maxLife {
			return invalid("expires_at", "%s is more than 100 years ahead", k.Expires.UTC().Format(time.RFC3339))
		}
	}
	return nil
}
