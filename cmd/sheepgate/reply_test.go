package main

import (
	"encoding/json"
)

// wanted is what a recorded reply says of itself, read here a second time and
// in another way than the product does.
type wanted struct {
	failed   bool // an error object came within the 200
	reported bool
	usage    [5]int64 // input, output, cache read, cache write, reasoning
	finish   string
	id       string
}

type obj = map[string]any

// at follows a path of keys; anything missing is nil.
func at(v any, path ...string) any {
	for _, k := range path {
		m, ok := v.(obj)
		if !ok {
			return nil
		}
		v = m[k]
	}
	return v
}

func num(v any, path ...string) int64 {
	f, _ := at(v, path...).(float64)
	return int64(f)
}

func str(v any, path ...string) string {
	s, _ := at(v, path...).(string)
	return s
}

func list(v any, path ...string) []any {
	l, _ := at(v, path...).([]any)
	return l
}

func readReply(rec *recording) wanted {
	var docs []any
	if rec.Stream {
		for _, d := range dataLines(rec.BodyText) {
			var v any
			if json.Unmarshal([]byte(d), &v) == nil {
				docs = append(docs, v)
			}
		}
	} else {
		var v any
		json.Unmarshal(rec.Body, &v)
		docs = []any{v}
	}
	switch rec.Dialect {
	case "anthropic.messages":
		return readAnthropic(docs)
	case "gemini.generate":
		return readGemini(docs)
	}
	return readOpenAI(docs)
}

func readOpenAI(docs []any) (w wanted) {
	for _, d := range docs {
		if at(d, "error") != nil {
			w.failed = true
		}
		if s := str(d, "id"); s != "" && w.id == "" {
			w.id = s
		}
		for _, c := range list(d, "choices") {
			if s := str(c, "finish_reason"); s != "" && num(c, "index") == 0 {
				w.finish = s
			}
		}
		u, _ := at(d, "usage").(obj)
		if u == nil {
			u, _ = at(d, "x_groq", "usage").(obj)
		}
		if u == nil {
			continue
		}
		w.reported = true
		in, out := num(u, "prompt_tokens"), num(u, "completion_tokens")
		cached := max(num(u, "prompt_tokens_details", "cached_tokens"), num(u, "prompt_cache_hit_tokens"), num(u, "num_cached_tokens"))
		w.usage = [5]int64{in, max(out, num(u, "total_tokens")-in), cached,
			num(u, "prompt_tokens_details", "cache_write_tokens"), num(u, "completion_tokens_details", "reasoning_tokens")}
	}
	return w
}

func readAnthropic(docs []any) (w wanted) {
	u := obj{}
	merge := func(v any) {
		m, _ := v.(obj)
		for k, x := range m {
			if x != nil {
				u[k] = x
				w.reported = true
			}
		}
	}
	for _, d := range docs {
		msg := d
		if m := at(d, "message"); m != nil {
			msg = m
		}
		if s := str(msg, "id"); s != "" {
			w.id = s
		}
		for _, v := range []any{str(d, "stop_reason"), str(msg, "stop_reason"), str(d, "delta", "stop_reason")} {
			if s := v.(string); s != "" {
				w.finish = s
			}
		}
		merge(at(msg, "usage"))
		merge(at(d, "usage"))
	}
	write := num(u, "cache_creation_input_tokens")
	read := num(u, "cache_read_input_tokens")
	w.usage = [5]int64{num(u, "input_tokens") + write + read, num(u, "output_tokens"), read, write, num(u, "output_tokens_details", "thinking_tokens")}
	return w
}

func readGemini(docs []any) (w wanted) {
	for _, d := range docs {
		if s := str(d, "responseId"); s != "" {
			w.id = s
		}
		for _, c := range list(d, "candidates") {
			if s := str(c, "finishReason"); s != "" {
				w.finish = s
			}
			if n := num(c, "finishReason"); n != 0 { // written as the enum's number
				w.finish = []string{"", "STOP", "MAX_TOKENS", "SAFETY"}[n]
			}
		}
		if s := str(d, "promptFeedback", "blockReason"); s != "" && w.finish == "" {
			w.finish = s
		}
		u, _ := at(d, "usageMetadata").(obj)
		if u == nil {
			continue
		}
		if at(u, "promptTokenCount") == nil && at(u, "candidatesTokenCount") == nil {
			continue // a bare total says nothing that can be billed
		}
		w.reported = true
		w.usage = [5]int64{num(u, "promptTokenCount") + num(u, "toolUsePromptTokenCount"),
			num(u, "candidatesTokenCount") + num(u, "thoughtsTokenCount"), num(u, "cachedContentTokenCount"), 0, num(u, "thoughtsTokenCount")}
	}
	return w
}
