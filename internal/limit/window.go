package limit

import "time"

// buckets is a minute of seconds and the one that is running: what is in any of
// them may be younger than a minute.
const buckets = 61

// rates is how many things are counted by the minute: requests, tokens, input
// and output, in this order.
const rates = 4

var kinds = [rates]Kind{Requests, Tokens, InputTokens, OutputTokens}

// amounts is one number for each of the rates.
type amounts [rates]int64

// minute is what the last minute holds of each rate. All are counted, also
// those without a limit: one that is set later knows what passed before. The
// second that is running stands apart, so that a call seldom has to fetch the
// others into the processor's cache.
type minute struct {
	sums   amounts
	now    amounts // of the second newest
	newest int64
	past   *[buckets]amounts // the seconds before, each at its number modulo buckets
}

// advance lets go of what is certainly older than a minute.
func (m *minute) advance(second int64) {
	switch {
	case second <= m.newest:
		return
	case second-m.newest >= buckets:
		*m.past = [buckets]amounts{}
		m.sums, m.now, m.newest = amounts{}, amounts{}, second
		return
	}
	m.past[m.newest%buckets] = m.now
	for m.newest < second {
		m.newest++
		m.now = m.past[m.newest%buckets] // a minute ago
		for i, n := range m.now {
			m.sums[i] -= n
		}
		m.past[m.newest%buckets] = amounts{}
	}
	m.now = amounts{}
}

// in is the counts of a second of the last minute.
func (m *minute) in(second int64) *amounts {
	if second == m.newest {
		return &m.now
	}
	return &m.past[second%buckets]
}

// add counts n in a second that may be past. What is older than a minute counts
// no more.
func (m *minute) add(second int64, n *amounts) {
	if m.newest-second >= buckets {
		return
	}
	to := m.in(second)
	for i := range n {
		to[i] += n[i]
		m.sums[i] += n[i]
	}
}

// wait is the time until n more of a rate fit under a limit, a second too long
// at most: 0 if they do, negative if they never will.
func (m *minute) wait(rate int, second, limit, n int64) time.Duration {
	if n > limit {
		return -1
	}
	over := m.sums[rate] + n - limit
	for s := max(second-buckets+1, 0); over > 0 && s <= second; s++ {
		if over -= m.in(s)[rate]; over <= 0 {
			return time.Duration(s+buckets-second) * time.Second
		}
	}
	return 0
}

// reset is the time until nothing is counted of a rate any more.
func (m *minute) reset(rate int, second int64) time.Duration {
	for s := second; s > second-buckets && s >= 0; s-- {
		if m.in(s)[rate] != 0 {
			return time.Duration(s+buckets-second) * time.Second
		}
	}
	return 0
}
