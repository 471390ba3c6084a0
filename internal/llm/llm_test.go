package llm

import (
	"fmt"
	"math"
	"math/big"
	"testing"
)

func TestNanoString(t *testing.T) {
	for _, n := range []Nano{0, 1, -1, 238000, 999_999_999, 1_000_000_000, 1_234_567_890_123, -5_000_000_001, math.MaxInt64, math.MinInt64} {
		v := big.NewInt(int64(n))
		want := fmt.Sprintf("$%d.%09d", new(big.Int).Quo(new(big.Int).Abs(v), big.NewInt(1e9)), new(big.Int).Rem(new(big.Int).Abs(v), big.NewInt(1e9)))
		if v.Sign() < 0 {
			want = "-" + want
		}
		if got := n.String(); got != want {
			t.Errorf("%d = %q, want %q", int64(n), got, want)
		}
	}
}
