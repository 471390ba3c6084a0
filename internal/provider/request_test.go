package provider

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// tell is what a request says, in one line a part: what every dialect can hold
// and none may lose.
func tell(t testing.TB, r *llm.Request) []string {
	t.Helper()
	var out []string
	add := func(s ...string) { out = append(out, strings.Join(s, " ")) }
	var system []string
	for _, p := range r.System {
		system = append(system, p.Text)
	}
	add("system", strings.Join(strings.Fields(strings.Join(system, " ")), " "))
	for _, m := range r.Messages {
		for _, p := range m.Parts {
			switch p.Kind {
			case llm.PartText:
				if s := strings.TrimSpace(p.Text); s != "" {
					add(string(m.Role), s)
				}
			case llm.PartToolCall:
				add("call", p.ToolName, string(canonical(t, p.Args)))
			case llm.PartToolResult:
				add("result", p.ToolName, p.Text)
				for _, q := range p.Parts {
					add("data", q.Data)
				}
			case llm.PartImage, llm.PartFile, llm.PartAudio:
				add("data", p.Data)
			}
		}
	}
	for _, f := range r.Tools {
		schema := f.Schema
		if isNull(schema) {
			schema = json.RawMessage(`{"properties":{},"type":"object"}`)
		}
		add("tool", f.Name, f.Description, string(canonical(t, schema)))
	}
	add("choice", r.ToolChoice.Mode, r.ToolChoice.Name)
	if r.Format != nil && r.Format.Schema != nil {
		add("format", string(canonical(t, r.Format.Schema)))
	}
	return out
}

// requests calls f for each recorded request that the dialect's neutral form
// can hold, and says how many it could not.
func requests(t *testing.T, d Dialect, most int, f func(t *testing.T, r *recording, q *llm.Request)) {
	refused := 0
	for _, r := range recordings(t, d.Name()) {
		q, err := d.Decode(r.Request, "model", r.Stream)
		if err != nil {
			refused++
			e := (*llm.Error)(nil)
			if !errors.As(err, &e) || e.Class != llm.InvalidRequest || e.Msg == "" || e.Param == "" {
				t.Errorf("%s: %#v is no InvalidRequest that names its field", r.ID, err)
			}
			t.Logf("%s: %v", r.ID, err)
			continue
		}
		t.Run(r.ID, func(t *testing.T) { f(t, &r, q) })
	}
	if refused > most {
		t.Errorf("%d recorded requests refused, want at most %d", refused, most)
	}
}

// What is decoded and encoded in the same dialect asks for the same.
func TestRequestRoundTrip(t *testing.T) {
	for _, d := range translated {
		most := map[string]int{"anthropic.messages": 42, "gemini.generate": 24}[d.Name()] // tools that the provider runs
		requests(t, d, most, func(t *testing.T, r *recording, q *llm.Request) {
			body, err := d.Encode(nil, q, &Spec{})
			if err != nil {
				t.Fatal(err)
			}
			again, err := d.Decode(body, "model", r.Stream)
			if err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			if got, want := tell(t, again), tell(t, q); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
			for _, f := range []struct{ got, want any }{
				{again.Stop, q.Stop}, {again.TopP, q.TopP}, {again.Seed, q.Seed}, {again.User, q.User}, {again.ParallelOff, q.ParallelOff},
				{again.N, q.N}, {again.Temperature, q.Temperature}, {again.Tier, q.Tier},
			} {
				if !reflect.DeepEqual(f.got, f.want) {
					t.Errorf("got %v, want %v", f.got, f.want)
				}
			}
			if q.MaxTokens != nil && (again.MaxTokens == nil || *again.MaxTokens != *q.MaxTokens) {
				t.Errorf("max tokens %v, want %d", again.MaxTokens, *q.MaxTokens)
			}
		})
	}
}

// A request of any dialect becomes valid JSON of any other, with the same text,
// calls, results and tools, or is refused by the name of a field.
func TestRequestCrosses(t *testing.T) {
	crossed := map[string]int{}
	for _, d := range []Dialect{OpenAI, Anthropic, Gemini} {
		for _, to := range []Dialect{OpenAI, Anthropic, Gemini} {
			if d == to {
				continue
			}
			most := map[string]int{"anthropic.messages": 42, "gemini.generate": 24, "openai.chat": 20}[d.Name()]
			requests(t, d, most, func(t *testing.T, r *recording, q *llm.Request) {
				body, err := to.Encode(nil, q, &Spec{})
				if e := (*llm.Error)(nil); errors.As(err, &e) && e.Class == llm.InvalidRequest && e.Param != "" {
					t.Logf("refused: %v", err)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				again, err := to.Decode(body, "model", r.Stream)
				if err != nil {
					t.Fatalf("%s: %v: %s", to.Name(), err, body)
				}
				crossed[d.Name()+" "+to.Name()]++
				got, want := tell(t, again), tell(t, q)
				if to == OpenAI { // results have no name there, and media of them no place
					got, want = without(got, "data"), without(want, "data")
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s: got  %q\nwant %q", to.Name(), got, want)
				}
			})
		}
	}
	t.Log(crossed)
	for pair, n := range crossed {
		if n < 40 {
			t.Errorf("%s: only %d crossed", pair, n)
		}
	}
}

func without(lines []string, kind string) (out []string) {
	for _, l := range lines {
		if !strings.HasPrefix(l, kind+" ") {
			out = append(out, l)
		}
	}
	return out
}
