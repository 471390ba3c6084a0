package crash

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// An errand is one call that a client makes.
type errand struct {
	path, body string
	status     int
	own        bool // the upstream speaks the client's dialect: finish reasons are the same words
}

const hello = `"messages":[{"role":"user","content":"Tell me about sheep."}]`

// errands are all dialects, plain and streamed, in their own and in another,
// and two mistakes.
var errands = []errand{
	{"/v1/chat/completions", `{"model":"gpt-4.1-mini",` + hello + `}`, 200, true},
	{"/v1/chat/completions", `{"model":"gpt-4.1-mini","stream":true,"stream_options":{"include_usage":true},` + hello + `}`, 200, true},
	{"/v1/chat/completions", `{"model":"claude-haiku-4-5","stream":true,"stream_options":{"include_usage":true},` + hello + `}`, 200, false},
	{"/v1/messages", `{"model":"claude-haiku-4-5","max_tokens":500,` + hello + `}`, 200, true},
	{"/v1/messages", `{"model":"claude-haiku-4-5","max_tokens":500,"stream":true,` + hello + `}`, 200, true},
	{"/v1/messages", `{"model":"gemini-2.5-flash","max_tokens":500,"stream":true,` + hello + `}`, 200, false},
	{"/v1beta/models/gemini-2.5-flash:generateContent", `{"contents":[{"role":"user","parts":[{"text":"Tell me about sheep."}]}]}`, 200, true},
	{"/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", `{"contents":[{"role":"user","parts":[{"text":"Tell me about sheep."}]}]}`, 200, true},
	{"/v1/chat/completions", `{"model":"no-such-model",` + hello + `}`, 404, true},
	{"/v1/messages", `{"model":`, 400, true},
}

// An answer is what the client of one call was told.
type answer struct {
	errand
	id            string
	status        int
	ended         time.Time // when the last byte had come
	cost          string    // the header's, in USD; "" if there was none
	input, output int64     // as the reply reports
	finish        string
	err           error // the answer did not come whole
}

// ask makes a call and reads its answer to the end.
func (p *process) ask(e errand) *answer {
	a := &answer{errand: e}
	defer func() { a.ended = time.Now() }()
	req, err := http.NewRequest("POST", p.url+e.path, strings.NewReader(e.body))
	if err != nil {
		a.err = err
		return a
	}
	req.Header.Set("X-Api-Key", clientKey)
	req.Header.Set("Content-Type", "application/json")
	res, err := p.client.Do(req)
	if err != nil {
		a.err = err
		return a
	}
	defer res.Body.Close()
	a.id, a.status, a.cost = res.Header.Get("Sheepgate-Call-Id"), res.StatusCode, res.Header.Get("Sheepgate-Cost-Usd")
	text, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		a.err = err
	case strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream"):
		a.stream(text)
	default:
		a.take(text)
	}
	return a
}

// stream reads the events of a streamed answer.
func (a *answer) stream(text []byte) {
	sc := bufio.NewScanner(bytes.NewReader(text))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if data, ok := strings.CutPrefix(sc.Text(), "data: "); ok && data != "[DONE]" {
			a.take([]byte(data))
		}
	}
}

// take reads a reply or a part of one, in any dialect: later figures win.
func (a *answer) take(text []byte) {
	type anthropicUsage struct {
		Input  int64 `json:"input_tokens"`
		Write  int64 `json:"cache_creation_input_tokens"`
		Read   int64 `json:"cache_read_input_tokens"`
		Output int64 `json:"output_tokens"`
	}
	var m struct {
		Error   json.RawMessage
		Choices []struct {
			Finish string `json:"finish_reason"`
		}
		Candidates []struct {
			Finish string `json:"finishReason"`
		}
		Usage struct {
			Prompt     int64 `json:"prompt_tokens"`
			Completion int64 `json:"completion_tokens"`
			anthropicUsage
		}
		Gemini struct {
			Prompt     int64 `json:"promptTokenCount"`
			Candidates int64 `json:"candidatesTokenCount"`
			Thoughts   int64 `json:"thoughtsTokenCount"`
		} `json:"usageMetadata"`
		Stop    string `json:"stop_reason"`
		Message struct{ Usage anthropicUsage }
		Delta   struct {
			Stop string `json:"stop_reason"`
		}
	}
	if err := json.Unmarshal(text, &m); err != nil {
		a.err = fmt.Errorf("%w: %.200s", err, text)
		return
	}
	if len(m.Error) > 0 && a.status == http.StatusOK {
		a.err = fmt.Errorf("an error within the answer: %s", m.Error)
	}
	last := func(to *int64, from ...int64) {
		var sum int64
		for _, n := range from {
			sum += n
		}
		if sum > 0 {
			*to = sum
		}
	}
	for _, u := range []anthropicUsage{m.Message.Usage, m.Usage.anthropicUsage} {
		last(&a.input, u.Input, u.Write, u.Read)
		last(&a.output, u.Output)
	}
	last(&a.input, m.Usage.Prompt)
	last(&a.output, m.Usage.Completion)
	last(&a.input, m.Gemini.Prompt)
	last(&a.output, m.Gemini.Candidates, m.Gemini.Thoughts)
	finish := []string{m.Stop, m.Delta.Stop}
	for _, c := range m.Choices {
		finish = append(finish, c.Finish)
	}
	for _, c := range m.Candidates {
		finish = append(finish, c.Finish)
	}
	for _, f := range finish {
		if f != "" {
			a.finish = f
		}
	}
}

// clients make calls until ctx ends, each in a goroutine of its own, and
// return every answer, also those that broke off.
func (p *process) clients(ctx context.Context, n int, seed uint64) (wait func() []*answer) {
	all := make([][]*answer, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			for ctx.Err() == nil {
				a := p.ask(errands[r.IntN(len(errands))])
				all[i] = append(all[i], a)
				if a.err != nil {
					return
				}
				time.Sleep(time.Duration(r.IntN(5)) * time.Millisecond)
			}
		})
	}
	return func() []*answer {
		wg.Wait()
		var list []*answer
		for _, answers := range all {
			list = append(list, answers...)
		}
		return list
	}
}
