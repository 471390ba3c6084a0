package call

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// TestAttemptJSON: what is written by hand is what encoding/json would write.
func TestAttemptJSON(t *testing.T) {
	check := func(a Attempt) {
		t.Helper()
		got, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(attemptJSON{a.Provider, a.ProviderKey, a.Model, a.HTTPStatus, a.ErrorClass, millis(a.Latency), nullable(a.Cost, a.Unpriced)})
		if err != nil || string(got) != string(want) {
			t.Errorf("got %s, want %s, error %v", got, want, err)
		}
		var again Attempt
		if err := json.Unmarshal(got, &again); err != nil {
			t.Error(err)
		}
	}
	check(Attempt{})
	check(Attempt{Provider: "openai", ProviderKey: "main", Model: "gpt-4.1", HTTPStatus: 200, Latency: 12345678 * time.Microsecond, Cost: 238000})
	check(Attempt{Model: "a\"b\\c<d>&é\x00\xff\u2028", ErrorClass: llm.RateLimited, Latency: time.Microsecond, Unpriced: true})
	check(Attempt{Latency: math.MaxInt64, Cost: math.MaxInt64, HTTPStatus: -1})
	check(Attempt{Latency: 100 * time.Nanosecond, Cost: -1})
}
