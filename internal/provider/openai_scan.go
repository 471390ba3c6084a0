package provider

import (
	"bytes"
	"encoding/json"
)

// scan reads what a Summary needs of a reply or a chunk, in one pass that
// decodes nothing of what was said. It returns false, whatever is filled in by
// then, for a reply that is unusual in any way: then encoding/json has the word.
//
// What it takes it must read as encoding/json would, which matches keys without
// regard to case and lets the last of two win: so a key that is no plain name,
// or is there twice, is unusual.
func (rep *openAIReply) scan(body []byte, room *openAIRoom) bool {
	s := scanner{b: body}
	if s.peek() != '{' {
		return false
	}
	s.i++
	var seen uint
	ok := true
	err := s.members(1, func(key span) error {
		if s.peek() == '[' && string(key.of(body)) == "choices" && rep.Choices == nil {
			s.i++
			room.list = room.choices[:0]
			err := s.elements(2, func() error {
				c, good, err := room.choice(&s)
				ok = ok && good
				room.list = append(room.list, c)
				return err
			})
			rep.Choices = &room.list
			return err
		}
		at, err := s.value(1)
		if err != nil {
			return err
		}
		v := at.of(body)
		switch k := key.of(body); string(k) {
		case "id":
			ok = ok && once(&seen, 0) && simpleText(v, &rep.ID)
		case "model":
			ok = ok && once(&seen, 1) && simpleText(v, &rep.Model)
		case "service_tier":
			ok = ok && once(&seen, 2) && simpleText(v, &rep.ServiceTier)
		case "usage":
			ok = ok && once(&seen, 3)
			rep.Usage = v
		case "error":
			ok = ok && once(&seen, 4) && !isError(v)
		case "choices": // no list, or the second one
			ok = false
		case "x_groq": // which holds usage
			ok = ok && string(v) == "null"
		default:
			ok = ok && plainKey(k)
		}
		return nil
	})
	s.peek()
	return err == nil && ok && rep.Choices != nil && s.i == len(body)
}

// openAIRoom is where scan puts what it finds. Few replies have two choices.
type openAIRoom struct {
	list    []openAIChoice
	choices [1]openAIChoice
	message openAIMessage
}

func (room *openAIRoom) choice(s *scanner) (c openAIChoice, ok bool, err error) {
	if s.peek() != '{' {
		return c, false, s.skip(2)
	}
	s.i++
	var seen uint
	ok = true
	err = s.members(3, func(key span) error {
		k := key.of(s.b)
		said := string(k) == "message" || string(k) == "delta"
		if said {
			ok = ok && once(&seen, len(k))
		}
		if said && s.peek() == '{' {
			m := &room.message
			if len(room.list) > 0 {
				m = new(openAIMessage)
			}
			*m = openAIMessage{}
			ok = ok && c.Message == nil // there is no reply with both
			c.Message = m
			s.i++
			good, err := m.scan(s)
			ok = ok && good
			return err
		}
		at, err := s.value(3)
		if err != nil {
			return err
		}
		v := at.of(s.b)
		switch {
		case said:
			ok = ok && string(v) == "null"
		case string(k) == "index":
			ok = ok && once(&seen, 1) && len(v) == 1 && digitOf(v[0], &c.Index)
		case string(k) == "finish_reason":
			ok = ok && once(&seen, 2) && simpleText(v, &c.FinishReason)
		default:
			ok = ok && plainKey(k)
		}
		return nil
	})
	return c, ok, err
}

// oneCall stands for any number of tool calls that nobody looks at.
var oneCall = make([]openAIToolCall, 1)

// scan fills in what says looks at.
func (m *openAIMessage) scan(s *scanner) (ok bool, err error) {
	var seen uint
	ok = true
	err = s.members(4, func(key span) error {
		at, err := s.value(4)
		if err != nil {
			return err
		}
		v := at.of(s.b)
		switch k := key.of(s.b); string(k) {
		case "content":
			ok = ok && once(&seen, 0)
			m.Content = v
		case "reasoning":
			ok = ok && once(&seen, 1)
			m.Reasoning = v
		case "reasoning_content":
			ok = ok && once(&seen, 2) && anyText(v, &m.ReasoningContent)
		case "refusal":
			ok = ok && once(&seen, 3) && anyText(v, &m.Refusal)
		case "tool_calls":
			ok = ok && once(&seen, 4)
			switch {
			case string(v) == "null", len(v) > 1 && v[0] == '[' && len(bytes.TrimSpace(v[1:len(v)-1])) == 0:
			case v[0] == '[':
				m.ToolCalls = oneCall
			default:
				ok = false
			}
		case "function_call", "audio", "executed_tools":
			ok = ok && string(v) == "null"
		default:
			ok = ok && plainKey(k)
		}
		return nil
	})
	return ok, err
}

// once marks bit i and reports whether it was not marked.
func once(seen *uint, i int) bool {
	was := *seen>>i&1 == 1
	*seen |= 1 << i
	return !was
}

// plainKey reports whether no decoder takes k for another key: it has neither
// upper case, nor escapes, nor letters beyond ASCII that fold into it.
func plainKey(k []byte) bool {
	for _, c := range k {
		if 'A' <= c && c <= 'Z' || c >= 0x80 || c == '\\' {
			return false
		}
	}
	return true
}

// simpleText reads a string that is what stands between its quotes, or null.
func simpleText(v []byte, to *string) bool {
	if string(v) == "null" {
		return true
	}
	if v[0] != '"' {
		return false
	}
	v = v[1 : len(v)-1]
	for _, c := range v {
		if c >= 0x80 || c == '\\' {
			return false
		}
	}
	*to = interned(v)
	return true
}

// interned is b as a string, without a new one for words that come all the time.
func interned(b []byte) string {
	switch string(b) {
	case "stop":
		return "stop"
	case "length":
		return "length"
	case "tool_calls":
		return "tool_calls"
	case "default":
		return "default"
	}
	return string(b)
}

// anyText sets to to some text if v is a string that holds any.
func anyText(v []byte, to *string) bool {
	if string(v) == "null" {
		return true
	}
	if len(v) > len(`""`) {
		*to = "text"
	}
	return v[0] == '"'
}

func digitOf(c byte, to *int) bool {
	*to = int(c - '0')
	return c-'0' <= 9
}

// scan reads a usage object, as json.Unmarshal would, or returns false.
func (o *openAIUsage) scan(raw []byte) bool {
	s := scanner{b: raw}
	if s.peek() != '{' {
		return false
	}
	s.i++
	var counts struct{ prompt, completion, total count }
	ok, seen := true, uint(0)
	pointed := func(bit int, p **count, to *count, v []byte) {
		ok = ok && once(&seen, bit)
		if string(v) != "null" {
			ok = ok && to.UnmarshalJSON(v) == nil
			*p = to
		}
	}
	err := s.object(1, func(k, v []byte) error {
		switch string(k) {
		case "prompt_tokens":
			pointed(0, &o.Prompt, &counts.prompt, v)
		case "completion_tokens":
			pointed(1, &o.Completion, &counts.completion, v)
		case "total_tokens":
			pointed(2, &o.Total, &counts.total, v)
		case "prompt_tokens_details":
			ok = ok && once(&seen, 3) && details(v, &o.PromptDetails.Cached, "cached_tokens", &o.PromptDetails.CacheWrite, "cache_write_tokens", &o.PromptDetails.Audio, "audio_tokens")
		case "completion_tokens_details":
			ok = ok && once(&seen, 4) && details(v, &o.CompletionDetails.Reasoning, "reasoning_tokens", &o.CompletionDetails.Audio, "audio_tokens", nil, "")
		case "prompt_cache_hit_tokens":
			ok = ok && once(&seen, 5) && o.CacheHit.UnmarshalJSON(v) == nil
		case "num_cached_tokens":
			ok = ok && once(&seen, 6) && o.NumCached.UnmarshalJSON(v) == nil
		case "cached_tokens":
			ok = ok && once(&seen, 7) && o.Cached.UnmarshalJSON(v) == nil
		case "cost":
			ok = ok && once(&seen, 8)
			o.Cost = v
		case "cost_in_usd_ticks":
			ok = ok && once(&seen, 9)
			o.CostTicks = v
		case "is_byok":
			ok = ok && once(&seen, 10) && boolean(&o.OwnKey, "", v) == nil
		case "cost_details":
			ok = ok && once(&seen, 11) && costDetails(v, &o.CostDetails.Upstream)
		case "server_tool_use", "server_tool_use_details":
			ok = ok && string(v) == "null"
		default:
			ok = ok && plainKey(k)
		}
		return nil
	})
	s.peek()
	return err == nil && ok && s.i == len(raw)
}

// object walks over an object whose brace has been read.
func (s *scanner) object(depth int, each func(key, v []byte) error) error {
	return s.members(depth, func(key span) error {
		at, err := s.value(depth)
		if err != nil {
			return err
		}
		return each(key.of(s.b), at.of(s.b))
	})
}

// details reads up to three counts of an object. v was scanned.
func details(v []byte, a *count, aKey string, b *count, bKey string, c *count, cKey string) bool {
	if string(v) == "null" {
		return true
	}
	if v[0] != '{' {
		return false
	}
	s := scanner{b: v, i: 1}
	ok, seen := true, uint(0)
	_ = s.object(1, func(k, v []byte) error {
		switch {
		case string(k) == aKey:
			ok = ok && once(&seen, 0) && a.UnmarshalJSON(v) == nil
		case string(k) == bKey:
			ok = ok && once(&seen, 1) && b.UnmarshalJSON(v) == nil
		case c != nil && string(k) == cKey:
			ok = ok && once(&seen, 2) && c.UnmarshalJSON(v) == nil
		default:
			ok = ok && plainKey(k)
		}
		return nil
	})
	return ok
}

func costDetails(v []byte, to *json.RawMessage) bool {
	if string(v) == "null" {
		return true
	}
	if v[0] != '{' {
		return false
	}
	s := scanner{b: v, i: 1}
	ok, seen := true, uint(0)
	_ = s.object(1, func(k, v []byte) error {
		if string(k) == "upstream_inference_cost" {
			ok = ok && once(&seen, 0)
			*to = v
			return nil
		}
		ok = ok && plainKey(k)
		return nil
	})
	return ok
}
