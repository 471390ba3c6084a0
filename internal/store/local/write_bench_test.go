package local

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
)

func benchCall(what string, i int) *call.Call {
	c := testCall(i % 1000)
	c.StartedAt = start.Add(time.Duration(i) * 10 * time.Millisecond)
	c.ID = call.DerivedID(c.StartedAt, what, strconv.Itoa(i))
	return c
}

// BenchmarkWriteBeside is what one Call takes to be stored while others are
// imported, sealed and merged all the time. What the longest takes is what a
// kill may cost.
func BenchmarkWriteBeside(b *testing.B) {
	s, err := Open(b.TempDir(), Options{SealRows: 100_000})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { done <- n }()
		for {
			calls := make([]*call.Call, 1000)
			for i := range calls {
				calls[i] = benchCall("imported", n)
				n++
			}
			if _, err := s.Import(b.Context(), calls); err != nil {
				b.Error(err)
				return
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		time.Sleep(time.Millisecond) // somebody stores a Call now and then
		began := time.Now()
		if err := s.Write(b.Context(), []call.Entry{{Call: benchCall("written", i)}}); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	close(stop)
	n := <-done
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)-1].Microseconds()), "us-longest")
	b.ReportMetric(float64(took[len(took)*999/1000].Microseconds()), "us-p99.9")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "us-p50")
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "imported/s")
}
