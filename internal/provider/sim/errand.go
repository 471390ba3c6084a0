package sim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

// A generator makes up calls. It is used by one goroutine.
type generator struct {
	base     string
	keys     []string
	o        TrafficOptions
	r        *rand.Rand
	sessions [24]session
}

// A session is a conversation that grows until it is replaced.
type session struct {
	id, user string
	app      application
	model    string
	turns    []string // the user's and the model's in turn
}

// An application is a kind of client that a team has.
type application struct {
	name, feature, env string
	system             string
	questions          []string
	stream             float64 // how often it streams
	tools, json        bool
}

var applications = []application{
	{name: "support-bot", feature: "chat", env: "prod", stream: 0.9, tools: true,
		system: "You are the support assistant of an online shop. Answer briefly and only from the policy below. " + strings.Repeat("Orders can be cancelled until they ship; refunds take five working days; opened software is not returned. ", 14),
		questions: []string{"Where is my order 20481?", "Can I cancel an order that I placed an hour ago?", "My parcel arrived damaged. What now?", "How long does a refund take?",
			"주문한 상품이 아직 도착하지 않았어요. 확인해 주세요.", "환불은 얼마나 걸리나요?", "배송지를 바꾸고 싶어요."}},
	{name: "search", feature: "rewrite", env: "prod", stream: 0, json: true,
		system:    "Rewrite the query for a product search engine.",
		questions: []string{"warm coat for a small dog", "laptop under 1,000 dollars with a good keyboard", "겨울용 방수 등산화 여성", "gift for a ten year old who likes space"}},
	{name: "summaries", feature: "digest", env: "prod", stream: 0.1,
		system: "Summarise the document in five sentences.",
		questions: []string{strings.Repeat("The committee met on Tuesday to review the figures of the quarter and the plan for the next one. ", 60),
			strings.Repeat("지난 분기의 매출은 예상보다 높았으며 비용은 조금 줄었습니다. ", 50),
			strings.Repeat("Each section of the manual describes one part of the machine, its use and its upkeep. ", 90)}},
	{name: "ide", feature: "assist", env: "dev", stream: 1, tools: true,
		system: "You are a careful programmer.",
		questions: []string{"Why does this loop never end?\n```go\nfor i := uint(9); i >= 0; i-- {\n\tprocess(i)\n}\n```", "Write a table-driven test for the parser.",
			"이 함수의 시간 복잡도를 설명해 주세요.", "Explain this stack trace in two sentences."}},
}

// weights is how often each model of the list is asked: the first most.
var weights = []float64{0.38, 0.27, 0.2, 0.15}

func (g *generator) model() string {
	p := g.r.Float64()
	for i, m := range g.o.Models {
		w := 0.1
		if i < len(weights) {
			w = weights[i]
		}
		if p -= w; p < 0 {
			return m
		}
	}
	return g.o.Models[0]
}

// next makes the next call.
func (g *generator) next() *errand {
	s := &g.sessions[g.r.IntN(len(g.sessions))]
	if s.id == "" || len(s.turns) > 12 || g.r.IntN(9) == 0 {
		*s = session{id: fmt.Sprintf("s-%08x", g.r.Uint32()), user: fmt.Sprintf("user-%03d", g.r.IntN(120)),
			app: applications[g.r.IntN(len(applications))], model: g.model()}
	}
	s.turns = append(s.turns, s.app.questions[g.r.IntN(len(s.app.questions))])
	m := s.model
	if g.r.IntN(400) == 0 {
		m = "gpt-5-turbo" // a name that nobody serves
	}
	stream := g.r.Float64() < s.app.stream
	e := &errand{header: http.Header{}}
	switch {
	case strings.Contains(m, "claude") && g.r.IntN(4) > 0:
		g.messages(e, s, m, stream)
	case strings.Contains(m, "gemini") && g.r.IntN(4) > 0:
		g.generate(e, s, m, stream)
	default:
		g.chat(e, s, m, stream)
	}
	g.head(e, s)
	if stream && g.r.IntN(40) == 0 || g.r.IntN(300) == 0 {
		e.leave = time.Duration(float64(100+g.r.IntN(900)) / g.o.Speed * float64(time.Millisecond))
	}
	s.turns = append(s.turns, strings.Join(speak(g.r, 40+g.r.IntN(120), false), ""))
	return e
}

func (g *generator) head(e *errand, s *session) {
	h := e.header
	key := g.keys[g.r.IntN(len(g.keys))]
	switch {
	case strings.Contains(e.path, "/v1/messages"):
		h.Set("x-api-key", key)
		h.Set("anthropic-version", "2023-06-01")
	case strings.Contains(e.path, "/v1beta/"):
		h.Set("x-goog-api-key", key)
	default:
		h.Set("Authorization", "Bearer "+key)
	}
	h.Set("Content-Type", "application/json")
	h.Set("Sheepgate-Session", s.id)
	h.Set("Sheepgate-User", s.user)
	h.Set("Sheepgate-Tag-App", s.app.name)
	h.Set("Sheepgate-Tag-Feature", s.app.feature)
	h.Set("Sheepgate-Tag-Env", s.app.env)
}

var (
	orderSchema = json.RawMessage(`{"type":"object","properties":{"order_id":{"type":"string","minLength":5},"include_items":{"type":"boolean"}},"required":["order_id"]}`)
	querySchema = json.RawMessage(`{"type":"object","properties":{"query":{"type":"string"},"filters":{"type":"array","items":{"type":"string"}},"max_price":{"type":["number","null"]}},"required":["query","filters","max_price"],"additionalProperties":false}`)
)

// limit is a token limit, mostly none (0).
func (g *generator) limit() int {
	if g.r.IntN(5) == 0 {
		return 64 << g.r.IntN(5)
	}
	return 0
}

func (g *generator) chat(e *errand, s *session, model string, stream bool) {
	e.path = g.base + "/v1/chat/completions"
	msgs := []any{obj("role", "system", "content", s.app.system)}
	for i, t := range s.turns {
		msgs = append(msgs, obj("role", [2]string{"user", "assistant"}[i%2], "content", t))
	}
	n := g.limit()
	schema := s.app.json && !strings.Contains(model, "deepseek") // which knows json_object only
	e.body = obj("model", model, "messages", arr(msgs...), "stream", when(stream, true),
		"stream_options", when(stream && g.r.IntN(2) == 0, obj("include_usage", true)),
		"max_tokens", when(n > 0, n), "user", s.user, "temperature", 0.2,
		"tools", when(s.app.tools && g.r.IntN(4) == 0, arr(obj("type", "function", "function",
			obj("name", "find_order", "description", "Looks up an order.", "parameters", orderSchema)))),
		"response_format", when(schema, obj("type", "json_schema", "json_schema", obj("name", "query", "strict", true, "schema", querySchema))))
}

func (g *generator) messages(e *errand, s *session, model string, stream bool) {
	e.path = g.base + "/v1/messages"
	var msgs []any
	for i, t := range s.turns {
		msgs = append(msgs, obj("role", [2]string{"user", "assistant"}[i%2], "content", t))
	}
	n := g.limit()
	if n == 0 {
		n = 4096
	}
	e.body = obj("model", model, "max_tokens", n, "stream", when(stream, true),
		"system", arr(obj("type", "text", "text", s.app.system, "cache_control", when(len(s.app.system) > 1000, obj("type", "ephemeral")))),
		"messages", arr(msgs...), "metadata", obj("user_id", s.user),
		"tools", when(s.app.tools && g.r.IntN(4) == 0, arr(obj("name", "find_order", "description", "Looks up an order.", "input_schema", orderSchema))))
}

func (g *generator) generate(e *errand, s *session, model string, stream bool) {
	e.path = g.base + "/v1beta/models/" + model + ":generateContent"
	if stream {
		e.path = g.base + "/v1beta/models/" + model + ":streamGenerateContent?alt=sse"
	}
	var msgs []any
	for i, t := range s.turns {
		msgs = append(msgs, obj("role", [2]string{"user", "model"}[i%2], "parts", arr(obj("text", t))))
	}
	n := g.limit()
	e.body = obj("systemInstruction", obj("parts", arr(obj("text", s.app.system))), "contents", arr(msgs...),
		"tools", when(s.app.tools && g.r.IntN(4) == 0, arr(obj("functionDeclarations",
			arr(obj("name", "find_order", "description", "Looks up an order.", "parameters", orderSchema))))),
		"generationConfig", obj("maxOutputTokens", when(n > 0, n), "temperature", 0.2,
			"responseMimeType", when(s.app.json, "application/json")))
}
