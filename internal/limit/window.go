package limit

import "time"

// buckets is a minute of seconds and the one that is running: what is in any of
// them may be younger than a minute.
const buckets = 61

// A window is a sum over the last minute.
type window struct {
	limit  int64
	sum    int64
	newest int64 // the second that at[newest%buckets] is of
	at     [buckets]int64
}

// advance lets go of what is certainly older than a minute.
func (w *window) advance(second int64) {
	if second-w.newest >= buckets {
		*w = window{limit: w.limit, newest: second}
		return
	}
	for w.newest < second {
		w.newest++
		b := &w.at[w.newest%buckets]
		w.sum -= *b
		*b = 0
	}
}

// add counts n in a second that may be past. What is older than a minute counts
// no more.
func (w *window) add(second, n int64) {
	if w.newest-second >= buckets {
		return
	}
	w.at[second%buckets] += n
	w.sum += n
}

// wait is the time until n more fit in, a second too long at most: 0 if they do,
// negative if they never will.
func (w *window) wait(second, n int64) time.Duration {
	if n > w.limit {
		return -1
	}
	over := w.sum + n - w.limit
	for s := max(second-buckets+1, 0); over > 0 && s <= second; s++ {
		if over -= w.at[s%buckets]; over <= 0 {
			return time.Duration(s+buckets-second) * time.Second
		}
	}
	return 0
}

// reset is the time until nothing is counted any more.
func (w *window) reset(second int64) time.Duration {
	for s := second; s > second-buckets && s >= 0; s-- {
		if w.at[s%buckets] != 0 {
			return time.Duration(s+buckets-second) * time.Second
		}
	}
	return 0
}
