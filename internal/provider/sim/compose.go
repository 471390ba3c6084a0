package sim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
)

// An answer is one reply, whatever format it goes out in.
type answer struct {
	q       *ask
	m       *Model
	n       uint64 // of the request: what ids are made from
	created int64
	rng     *rand.Rand

	thought []string // reasoning, in pieces
	choices []choice

	// Tokens. input holds the cached parts, output the reasoning.
	input, cacheRead, cacheWrite, reasoning, output int
}

// A choice is one of the n answers asked for.
type choice struct {
	pieces  []string // of text
	calls   []toolCall
	finish  finish
	stopped string // the stop sequence that ended it
}

func (c *choice) text() string { return strings.Join(c.pieces, "") }

type toolCall struct {
	id   string
	name string
	args json.RawMessage
}

// pieces cuts the arguments as a stream would send them.
func (t *toolCall) pieces() []string {
	var p []string
	for s := string(t.args); s != ""; {
		n := min(len(s), 12)
		for n < len(s) && s[n]&0xC0 == 0x80 { // not within a rune
			n++
		}
		p, s = append(p, s[:n]), s[n:]
	}
	return p
}

type finish int

const (
	ended    finish = iota // by itself
	stopped                // at a stop sequence
	cut                    // at the token limit
	calls                  // for tools
	filtered               // refused or filtered
)

// compose writes the answer that d decided on.
func compose(q *ask, m *Model, d draw, r *rand.Rand, calm bool, created int64, n uint64) *answer {
	a := &answer{q: q, m: m, n: n, created: created, rng: r, input: q.input()}
	a.cached(r)
	room := a.think(d)
	if a.reasoning > 0 && (q.thoughts || m.Name == "deepseek-reasoner") {
		a.thought = speak(r, a.reasoning, q.korean())
	}
	for i := range max(1, q.n) {
		c, tokens := a.choice(d, room, calm, i)
		a.choices = append(a.choices, c)
		a.output += tokens
	}
	a.output += a.reasoning
	return a
}

// think decides how long the model reasons, and says how many tokens that
// leaves to the answer (0: no limit).
func (a *answer) think(d draw) (room int) {
	q, r := a.q, a.rng
	if r.Float64() < a.m.Thinks {
		a.reasoning = 20 + int(float64(d.output)*(0.3+r.Float64()))
		if q.maxTokens > 0 {
			a.reasoning = min(a.reasoning, q.maxTokens/2)
		}
	}
	if q.maxTokens > 0 {
		room = max(1, q.maxTokens-a.reasoning)
	}
	return room
}

// cached decides how much of the prompt was read from or written to the cache.
// OpenAI, DeepSeek and Gemini cache long prompts unasked, in steps of 64 or
// 128 tokens; Anthropic where cache_control says so.
func (a *answer) cached(r *rand.Rand) {
	switch a.m.Vendor {
	case "anthropic":
		if !a.q.cache || a.input < 64 {
			return
		}
		if part := a.input * 4 / 5; r.IntN(3) > 0 {
			a.cacheRead = part
		} else {
			a.cacheWrite = part
		}
	case "deepseek":
		if a.input >= 128 && r.IntN(2) == 0 {
			a.cacheRead = a.input * 3 / 4 / 64 * 64
		}
	default:
		if a.input >= 1024 && r.IntN(2) == 0 {
			a.cacheRead = a.input * 3 / 4 / 128 * 128
		}
	}
}

// choice makes one choice of at most room tokens (0: no limit) and says how
// many tokens it has.
func (a *answer) choice(d draw, room int, calm bool, i int) (choice, int) {
	q, r := a.q, a.rng
	if a.callsTool(calm) {
		c := choice{finish: calls, calls: a.toolCalls(calm, i)}
		n := 8
		for _, t := range c.calls {
			n += 10 + len(t.args)/4
		}
		return c, n
	}
	odd := r.Float64()
	if !calm && odd < 0.004 && q.schema == nil {
		return choice{finish: filtered, pieces: speak(r, 6, q.korean())}, 6
	}
	want := d.output
	if i > 0 {
		want = max(4, want*(70+r.IntN(60))/100)
	}
	var c choice
	if q.json {
		doc := fit(q.schema, r, func() string { return strings.TrimSpace(strings.Join(speak(r, 4, q.korean()), "")) })
		c.pieces = (&toolCall{args: doc}).pieces()
		want = len(c.pieces) * 3
	} else {
		c.pieces = speak(r, want, q.korean())
	}
	c.stopAt(q.stop)
	if c.finish == stopped {
		want = len(c.pieces) * 13 / 10
	}
	tokens := want
	switch {
	case room > 0 && tokens > room:
		c.pieces = c.pieces[:max(1, len(c.pieces)*room/tokens)]
		c.finish, c.stopped, tokens = cut, "", room
	case !calm && odd > 0.99 && !q.json:
		c.finish, c.stopped = cut, ""
	}
	return c, max(1, tokens)
}

// stopAt ends the text before the first stop sequence in it.
func (c *choice) stopAt(stop []string) {
	text := c.text()
	at := -1
	for _, s := range stop {
		if i := strings.Index(text, s); s != "" && i >= 0 && (at < 0 || i < at) {
			at, c.stopped, c.finish = i, s, stopped
		}
	}
	if at < 0 {
		return
	}
	var kept []string
	for _, p := range c.pieces {
		if len(p) >= at {
			kept = append(kept, p[:at])
			break
		}
		kept, at = append(kept, p), at-len(p)
	}
	c.pieces = kept
}

func (a *answer) callsTool(calm bool) bool {
	q := a.q
	switch {
	case len(q.tools) == 0 || q.noCall:
		return false
	case q.mustCall || q.only != "":
		return true
	case q.answered:
		return false
	}
	return calm || a.rng.IntN(4) > 0
}

// toolCalls calls the tool that must be called, else the first one when calm,
// else one or two by chance.
func (a *answer) toolCalls(calm bool, choice int) []toolCall {
	q, r := a.q, a.rng
	picks := []int{0}
	if !calm {
		picks[0] = r.IntN(len(q.tools))
		if r.IntN(6) == 0 {
			picks = append(picks, r.IntN(len(q.tools)))
		}
	}
	var cs []toolCall
	for i, p := range picks {
		t := q.tools[p]
		for _, u := range q.tools {
			if u.name == q.only {
				t = u
			}
		}
		args := json.RawMessage("{}")
		if len(t.schema) > 0 {
			args = fit(t.schema, r, func() string { return strings.TrimSpace(strings.Join(speak(r, 3, q.korean()), "")) })
		}
		cs = append(cs, toolCall{id: a.id("", 24, 10+choice*8+i), name: t.name, args: args})
	}
	return cs
}

// id is a made-up id of n letters after a prefix, the same for the same
// request and i.
func (a *answer) id(prefix string, n, i int) string {
	const letters = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz0123456789"
	r := rand.New(rand.NewPCG(a.n, uint64(a.created)<<8|uint64(i)))
	b := []byte(prefix)
	for range n {
		b = append(b, letters[r.IntN(len(letters))])
	}
	return string(b)
}

// hex is an id in hexadecimal, as request ids are.
func (a *answer) hex() string {
	r := rand.New(rand.NewPCG(a.n, uint64(a.created)))
	return fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64())
}
