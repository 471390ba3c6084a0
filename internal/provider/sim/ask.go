package sim

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// An ask is what a request wants, whatever format it came in.
type ask struct {
	model  string
	stream bool
	usage  bool // OpenAI: the usage chunk was asked for
	sse    bool // Gemini: alt=sse

	text     strings.Builder // all that the model reads, for language and length
	messages int
	last     string // the last user text
	answered bool   // the last message is a tool's result

	tools    []tool
	mustCall bool   // some tool must be called
	noCall   bool   // none may be
	only     string // this one must be called

	json      bool            // an object is asked for
	schema    json.RawMessage // that fits this, if not nil
	maxTokens int             // 0 if not said
	stop      []string
	cache     bool // cache_control is in use
	thoughts  bool // reasoning is to be shown
	n         int  // choices
}

type tool struct {
	name   string
	schema json.RawMessage
}

func (q *ask) read(s string) {
	q.text.WriteString(s)
	q.text.WriteByte('\n')
}

// korean reports whether the last user text is mostly Hangul.
func (q *ask) korean() bool {
	hangul, letters := 0, 0
	for _, r := range q.last {
		switch {
		case r >= 0xAC00 && r <= 0xD7A3:
			hangul++
			letters++
		case r > ' ':
			letters++
		}
	}
	return hangul*3 > letters
}

// tokens estimates those of a text: four ASCII letters or 1.4 other ones to a
// token.
func tokens(text string) int {
	ascii := 0
	for i := range len(text) {
		if text[i] < utf8.RuneSelf {
			ascii++
		}
	}
	other := utf8.RuneCountInString(text) - ascii
	return ascii/4 + other*10/14
}

// input estimates the prompt's tokens: its text's, and a few for each message
// and tool.
func (q *ask) input() int {
	n := tokens(q.text.String()) + 4*q.messages + 3
	for _, t := range q.tools {
		n += 12 + len(t.schema)/5
	}
	return n
}

// content reads a message's content: a string or a list of parts with text.
// Other parts count as what they are, roughly.
func (q *ask) content(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		q.read(s)
		return s
	}
	var parts []struct {
		Type    string
		Text    string
		Content json.RawMessage
	}
	if json.Unmarshal(raw, &parts) != nil {
		return ""
	}
	var b strings.Builder
	for _, p := range parts {
		switch {
		case p.Type == "tool_result":
			q.answered = true
			q.content(p.Content)
		case p.Text != "":
			q.read(p.Text)
			b.WriteString(p.Text)
		case strings.Contains(p.Type, "image"):
			q.read(strings.Repeat("pixel ", 500)) // about 765 tokens
		}
	}
	return b.String()
}
