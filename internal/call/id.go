package call

import (
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

var ids struct {
	mu      sync.Mutex
	entropy *ulid.MonotonicEntropy
}

func init() { ids.entropy = ulid.Monotonic(rand.Reader, 0) }

// NewID makes the id of a Call that started at t: a ULID, so ids sort by time,
// and within one millisecond by order of making.
func NewID(t time.Time) string {
	ids.mu.Lock()
	defer ids.mu.Unlock()
	id, err := ulid.New(ulid.Timestamp(t), ids.entropy)
	if err != nil { // the millisecond's entropy overflowed: start it anew
		ids.entropy = ulid.Monotonic(rand.Reader, 0)
		id = ulid.MustNew(ulid.Timestamp(t), ids.entropy)
	}
	return id.String()
}

// DerivedID is the id of a Call that came without one: the same source, row and
// time give the same id.
func DerivedID(t time.Time, source, sourceID string) string {
	h := sha256.Sum256([]byte(source + "\x00" + sourceID))
	var id ulid.ULID
	_ = id.SetTime(ulid.Timestamp(t)) // fails only past the year 10889
	_ = id.SetEntropy(h[:10])         // fails only for another length
	return id.String()
}

// ValidID reports whether s is a ULID in its canonical form.
func ValidID(s string) bool {
	id, err := ulid.ParseStrict(s)
	return err == nil && id.String() == s
}
