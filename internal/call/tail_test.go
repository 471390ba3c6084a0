package call

import "testing"

// A listener that does not listen misses Calls, knows it, and holds up nobody.
func TestTailTellsWhatIsMissed(t *testing.T) {
	var tail Tail
	slow, missed, stop := tail.Subscribe()
	defer stop()
	quick, never, end := tail.Subscribe()
	write := func(n int) {
		t.Helper()
		for range n {
			if err := tail.Write(t.Context(), []Entry{{Call: &Call{ID: "x"}}}); err != nil {
				t.Fatal(err)
			}
			<-quick
		}
	}
	write(cap(slow))
	if missed() {
		t.Error("missed before the queue is full")
	}
	write(3)
	if !missed() || missed() {
		t.Error("what was missed is not told once")
	}
	for range cap(slow) {
		<-slow
	}
	write(1)
	if got := <-slow; len(got) != 1 || missed() {
		t.Errorf("a queue that was emptied gives %d calls", len(got))
	}
	if never() {
		t.Error("the quick one missed something")
	}
	end()
	if got := len(tail.subs); got != 1 {
		t.Errorf("%d listeners, want 1", got)
	}
}
