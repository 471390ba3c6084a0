package price

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// Rates are per million tokens, by kind.
type Rates map[string]Rate

// kinds are the kinds of tokens that may have a rate. Audio that was read from a
// cache has one in the catalogue but is not told apart in a usage: it is billed
// as any cached token.
var kinds = []string{"input", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "audio_cache_read",
	"output", "reasoning_output", "audio_output"}

func (r Rates) check(at place) {
	if _, ok := r["input"]; !ok {
		at.fail("input is missing")
	}
	for _, k := range sortedNames(r) {
		if !slices.Contains(kinds, k) {
			at.in(k).fail("it is none of %s", strings.Join(kinds, ", "))
		}
	}
}

// A Rate is nano-USD per million tokens, or per thousand calls: $0.42 is
// 420,000,000. In JSON it is dollars.
type Rate int64

// maxRate bounds a rate at 10,000 dollars, so that sums cannot overflow.
const maxRate = 10_000 * 1_000_000_000

// UnmarshalJSON reads dollars, exactly.
func (r *Rate) UnmarshalJSON(b []byte) error {
	n, err := nanoDollars(string(b))
	if err != nil {
		return err
	}
	*r = Rate(n)
	return nil
}

// MarshalJSON writes dollars.
func (r Rate) MarshalJSON() ([]byte, error) {
	s := strings.TrimPrefix(llm.Nano(r).String(), "$")
	s = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	return []byte(s), nil
}

// nanoDollars reads a JSON number of dollars that has at most nine decimals.
func nanoDollars(s string) (int64, error) {
	bad := fmt.Errorf("rate %.30q is not a number of dollars from 0 to 10000 with at most nine decimals", s)
	digits, exp, hasExp := strings.Cut(strings.ToLower(s), "e") // YAML's small numbers come as 1e-05
	shift := 9
	if hasExp {
		n, err := strconv.Atoi(exp)
		if err != nil || n < -30 || n > 30 {
			return 0, bad
		}
		shift += n
	}
	whole, frac, _ := strings.Cut(digits, ".")
	shift -= len(frac)
	digits = strings.TrimLeft(whole+frac, "0")
	for ; shift < 0 && strings.HasSuffix(digits, "0"); shift++ {
		digits = digits[:len(digits)-1]
	}
	if whole == "" {
		return 0, bad
	}
	if digits == "" {
		return 0, nil
	}
	if shift < 0 || len(digits)+shift > 14 {
		return 0, bad
	}
	n, err := strconv.ParseUint(digits+strings.Repeat("0", shift), 10, 63) // refuses signs and what is no digit
	if err != nil || n > maxRate {
		return 0, bad
	}
	return int64(n), nil
}
