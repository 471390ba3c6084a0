package gateway

import (
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
)

// Shares of the memory limit (GOMEMLIMIT) from which on bodies are no longer
// kept, and no further request is taken. In per mille.
const (
	keepNothing = 800
	takeNothing = 900
)

// maxCalls bounds the requests under way: at 40 KiB for a stream that stands
// still, a gigabyte.
const maxCalls = 25_000

// The room that the collector leaves for garbage, in per cent of what is live.
// What is live is little, some MiB, and collecting often costs more than memory
// does; but while many requests are under way most memory is theirs and stays
// so, and to look through it is small beside what they did to get there.
const (
	manyCalls  = 1000
	fewBytes   = 64 << 20 // of bodies
	muchRoom   = 200
	usualRoom  = 100 // while bodies are held: they are no little
	littleRoom = 12
)

// A memory knows how much of the memory limit is used. Without a limit it is
// never short.
type memory struct {
	bodies atomic.Int64 // bytes of long bodies held by requests under way

	mu      sync.Mutex
	checked atomic.Int64 // Unix nanoseconds
	share   atomic.Int64 // per mille
	room    int          // that is in force; 0: the runtime's own
	cycles  uint64       // of garbage collection, when before was noted
	before  int64        // bodies then
	samples []metrics.Sample
}

// sampleEvery is how old a figure may be.
const sampleEvery = 20 * time.Millisecond

// adapt gives the collector the room that n requests under way leave it, unless
// the operator has said how much that is (GOGC).
func (m *memory) adapt(n int64) {
	room := muchRoom
	switch {
	case n >= manyCalls:
		room = littleRoom
	case m.bodies.Load() >= fewBytes:
		room = usualRoom
	}
	if room != m.room && os.Getenv("GOGC") == "" {
		m.room = room
		debug.SetGCPercent(room)
	}
}

// used is the share of the limit that is used, per mille. Garbage does not
// count: the collector runs more often before the limit is reached. What is
// live is known as of the last collection; bodies that have come since are
// added.
func (m *memory) used(calls int64) int64 {
	now := time.Now().UnixNano()
	if now-m.checked.Load() < int64(sampleEvery) || !m.mu.TryLock() {
		return m.share.Load()
	}
	defer m.mu.Unlock()
	m.checked.Store(now)
	m.adapt(calls)
	limit := debug.SetMemoryLimit(-1)
	if limit <= 0 || limit == math.MaxInt64 {
		m.share.Store(0)
		return 0
	}
	if m.samples == nil {
		for _, name := range []string{"/memory/classes/total:bytes", "/memory/classes/heap/released:bytes", "/memory/classes/heap/free:bytes",
			"/memory/classes/heap/objects:bytes", "/gc/heap/live:bytes", "/gc/cycles/total:gc-cycles"} {
			m.samples = append(m.samples, metrics.Sample{Name: name})
		}
	}
	metrics.Read(m.samples)
	v := func(i int) int64 { return int64(m.samples[i].Value.Uint64()) }
	bodies := m.bodies.Load()
	if c := m.samples[5].Value.Uint64(); c != m.cycles {
		m.cycles, m.before = c, bodies
	}
	objects, live := v(3), v(4)
	live = min(objects, live+max(0, bodies-m.before))
	share := (v(0) - v(1) - v(2) - objects + live) * 1000 / limit
	m.share.Store(share)
	return share
}

// admit refuses a request that there is no room for.
func (g *Gateway) admit() *llm.Error {
	switch {
	case g.total.Load() > maxCalls:
		return overloaded("too many requests are under way")
	case g.memory.used(g.total.Load()) >= takeNothing:
		return overloaded("its memory is nearly used up")
	}
	return nil
}

func overloaded(why string) *llm.Error {
	return &llm.Error{Class: llm.Overloaded, Code: call.ShedCode, RetryAfter: time.Second, Final: true,
		Msg: "this gateway takes no more requests at the moment: " + why + "; try again"}
}

// grow accounts for n more bytes of a long body. It refuses them when the memory
// is nearly used up.
func (x *exchange) grow(n int) error {
	x.held += int64(n)
	x.g.memory.bodies.Add(int64(n))
	if x.g.memory.used(x.g.total.Load()) >= takeNothing {
		return overloaded("its memory is nearly used up")
	}
	return nil
}

// short reports whether memory is too short to keep bodies.
func (x *exchange) short() bool { return x.g.memory.used(x.g.total.Load()) >= keepNothing }
