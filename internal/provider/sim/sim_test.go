package sim

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// What a hundred thousand answers show is what the model is said to be.
func TestDraw(t *testing.T) {
	for _, m := range Models() {
		r := rand.New(rand.NewPCG(1, 2))
		const n = 100_000
		var ms []float64
		sum, ok, long := 0.0, 0, 0
		for range n {
			d := m.draw(r, false)
			if d.ttft <= 0 || d.output < 1 {
				t.Fatalf("%s: draw %+v", m.Name, d)
			}
			if d.status != 0 {
				continue
			}
			if d.ttft > d.latency {
				t.Fatalf("%s: first token after the end: %+v", m.Name, d)
			}
			ok++
			x := d.latency.Seconds() * 1000
			sum += x
			ms = append(ms, x)
			if d.output > 2*int(m.Output) {
				long++
			}
		}
		slices.Sort(ms)
		near := func(what string, got, want, tolerance float64) {
			t.Helper()
			if math.Abs(got-want) > tolerance*want {
				t.Errorf("%s: %s = %.4g, want %.4g within %g%%", m.Name, what, got, want, tolerance*100)
			}
		}
		near("mean", sum/float64(ok), m.Mean, 0.015)
		near("P95", ms[len(ms)*95/100], m.P95, 0.025)
		near("success", float64(ok)/n, m.Success, 0.0015)
		near("share of answers twice as long as the median", float64(long)/n, 0.161, 0.08) // 1 − Φ(ln 2 / 0.7)
	}
}

func TestSameSeedSameAnswers(t *testing.T) {
	ask := func() string {
		s := New(Options{Seed: 7, Speed: 1e6})
		var all strings.Builder
		for range 20 {
			w := post(s, "/openai/v1/chat/completions", `{"model":"gpt-4.1","messages":[{"role":"user","content":"hi"}]}`)
			var reply struct{ Choices, Usage json.RawMessage }
			_ = json.Unmarshal(w.Body.Bytes(), &reply)
			all.Write(reply.Choices)
			all.Write(reply.Usage)
		}
		return all.String()
	}
	if a, b := ask(), ask(); a != b {
		t.Errorf("two servers of one seed differ:\n%s\n%s", a, b)
	}
}

func post(s *Server, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer k")
	r.Header.Set("anthropic-version", "2023-06-01")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// A value made for a schema is valid against it, whatever the chance.
func TestFit(t *testing.T) {
	schemas := []string{
		`{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer","minimum":1,"maximum":7}},"required":["city","days"],"additionalProperties":false}`,
		`{"type":"object","properties":{"items":{"type":"array","minItems":2,"maxItems":4,"items":{"type":"object","properties":{"price":{"type":"number","exclusiveMinimum":0},"unit":{"enum":["kg","m"]}},"required":["price","unit"]}}},"required":["items"]}`,
		`{"$defs":{"node":{"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},"required":["v","next"],"additionalProperties":false}},"$ref":"#/$defs/node"}`,
		`{"type":"object","properties":{"at":{"type":"string","format":"date-time"},"id":{"type":"string","format":"uuid"},"n":{"type":["integer","null"],"multipleOf":5},"short":{"type":"string","maxLength":3},"long":{"type":"string","minLength":40},"ok":{"type":"boolean"},"kind":{"const":"a"}},"required":["at","id","n","short","long","ok","kind"]}`,
		`{"allOf":[{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]},{"properties":{"b":{"type":"string"}},"required":["b"]}]}`,
		`{"type":"array","items":{"type":"integer","minimum":-5,"maximum":-1},"uniqueItems":true,"maxItems":3}`,
	}
	for _, text := range schemas {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		c := jsonschema.NewCompiler()
		c.AssertFormat()
		if err := c.AddResource("s.json", doc); err != nil {
			t.Fatal(err)
		}
		valid, err := c.Compile("s.json")
		if err != nil {
			t.Fatal(err)
		}
		for seed := range uint64(500) {
			r := rand.New(rand.NewPCG(seed, 0))
			got := fit(json.RawMessage(text), r, func() string { return "some words" })
			v, err := jsonschema.UnmarshalJSON(bytes.NewReader(got))
			if err != nil {
				t.Fatalf("%s: made %s: %v", text, got, err)
			}
			if err := valid.Validate(v); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
	}
}

// Nothing that comes in breaks the server: it answers, and with JSON.
func FuzzServe(f *testing.F) {
	paths := []string{"/openai/v1/chat/completions", "/anthropic/v1/messages", "/gemini/v1beta/models/gemini-2.5-flash:generateContent", "/deepseek/v1/chat/completions"}
	for i, b := range []string{
		`{"model":"gpt-4.1","messages":[{"role":"user","content":"hi"}],"stop":"a","tools":[{"function":{"name":"f","parameters":{"$ref":"#"}}}]}`,
		`{"model":"claude-sonnet-4-5","max_tokens":5,"messages":[{"role":"user","content":[{"type":"tool_result","content":"x"}]}]}`,
		`{"contents":[{"parts":[{"text":"가"}]}],"generationConfig":{"responseMimeType":"application/json","responseSchema":{"type":"OBJECT","allOf":[{"$ref":"#"}]}}}`,
		`{"model":"deepseek-chat","n":3,"messages":[{}],"response_format":{"type":"json_schema","json_schema":{"schema":{"type":"number","multipleOf":1e-300}}}}`,
	} {
		f.Add(uint8(i), []byte(b))
	}
	f.Fuzz(func(t *testing.T, path uint8, body []byte) {
		if bytes.Contains(body, []byte("tream")) {
			return // a broken stream panics on purpose, as http wants it
		}
		s := New(Options{Speed: 1e9, Calm: true})
		w := post(s, paths[int(path)%len(paths)], string(body))
		if b, _ := io.ReadAll(w.Body); !json.Valid(b) && w.Code != http.StatusOK {
			t.Errorf("status %d with %q", w.Code, b)
		} else if !json.Valid(b) {
			t.Errorf("answer is not JSON: %q", b)
		}
	})
}
