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
	silent   bool // nothing will be sent: texts are counted, not written
}

// A session is a conversation that grows until it is replaced.
type session struct {
	id, user string
	app      int // of applications
	model    string
	turns    []string // the user's and the model's in turn
	said     int      // how many turns there were
	tokens   int      // in them
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
	weight := func(i int) float64 {
		if i < len(weights) {
			return weights[i]
		}
		return 0.08
	}
	sum := 0.0
	for i := range g.o.Models {
		sum += weight(i)
	}
	p := g.r.Float64() * sum
	for i, m := range g.o.Models {
		if p -= weight(i); p < 0 {
			return m
		}
	}
	return g.o.Models[0]
}

// noSuchModel is a name that nobody serves.
const noSuchModel = "gpt-5-turbo"

// A plan is one call before it is put into a vendor's words.
type plan struct {
	s       *session
	app     *application
	model   string
	ingress string // as the gateway names the route
	stream  bool
	tools   bool
	json    bool          // the answer is an object
	limit   int           // of the answer, in tokens; 0 means none
	wrong   bool          // a mistake makes it invalid
	leave   time.Duration // the client hangs up after this; 0 means never
}

// plan makes up the next call.
func (g *generator) plan() plan {
	r := g.r
	s := &g.sessions[r.IntN(len(g.sessions))]
	if s.id == "" || s.said > 12 || r.IntN(9) == 0 {
		*s = session{id: fmt.Sprintf("s-%08x", r.Uint32()), user: fmt.Sprintf("user-%03d", r.IntN(120)), app: r.IntN(len(applications)), model: g.model()}
	}
	p := plan{s: s, app: &applications[s.app], model: s.model, ingress: "openai.chat"}
	g.say(s, r.IntN(len(p.app.questions)))
	if r.IntN(400) == 0 {
		p.model = noSuchModel
	}
	p.stream = r.Float64() < p.app.stream
	switch {
	case strings.Contains(p.model, "claude") && r.IntN(4) > 0:
		p.ingress = "anthropic.messages"
		p.wrong = r.IntN(150) == 0
	case strings.Contains(p.model, "gemini") && r.IntN(4) > 0:
		p.ingress = "gemini.generate"
	}
	p.tools = p.app.tools && r.IntN(4) == 0
	p.json = p.app.json && p.ingress != "anthropic.messages" && !strings.Contains(p.model, "deepseek") // which knows json_object only
	if r.IntN(5) == 0 {
		p.limit = 64 << r.IntN(5)
	}
	if p.stream && r.IntN(40) == 0 || r.IntN(300) == 0 {
		p.leave = time.Duration(100+r.IntN(900)) * time.Millisecond
	}
	return p
}

// say adds a question to a conversation.
func (g *generator) say(s *session, question int) {
	text := applications[s.app].questions[question]
	s.said++
	s.tokens += tokens(text)
	if !g.silent {
		s.turns = append(s.turns, text)
	}
}

// reply adds what the model might have said.
func (g *generator) reply(s *session) {
	n := 40 + g.r.IntN(120)
	s.said++
	s.tokens += n * spoken / 100
	if !g.silent {
		s.turns = append(s.turns, strings.Join(speak(g.r, n, false), ""))
	}
}

// next makes the next call.
func (g *generator) next() *errand {
	p := g.plan()
	e := g.write(p)
	g.reply(p.s)
	return e
}

// write puts a call into its vendor's words.
func (g *generator) write(p plan) *errand {
	e := &errand{header: http.Header{}, leave: time.Duration(float64(p.leave) / g.o.Speed)}
	switch p.ingress {
	case "anthropic.messages":
		g.messages(e, p)
	case "gemini.generate":
		g.generate(e, p)
	default:
		g.chat(e, p)
	}
	g.head(e, p)
	return e
}

// key is which of n keys an application calls with.
func (s *session) key(n int) int { return s.app % n }

func (g *generator) head(e *errand, p plan) {
	h, s := e.header, p.s
	key := g.keys[s.key(len(g.keys))]
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
	h.Set("Sheepgate-Tag-App", p.app.name)
	h.Set("Sheepgate-Tag-Feature", p.app.feature)
	h.Set("Sheepgate-Tag-Env", p.app.env)
}

var (
	orderSchema = json.RawMessage(`{"type":"object","properties":{"order_id":{"type":"string","minLength":5},"include_items":{"type":"boolean"}},"required":["order_id"]}`)
	querySchema = json.RawMessage(`{"type":"object","properties":{"query":{"type":"string"},"filters":{"type":"array","items":{"type":"string"}},"max_price":{"type":["number","null"]}},"required":["query","filters","max_price"],"additionalProperties":false}`)
)

func (g *generator) chat(e *errand, p plan) {
	e.path = g.base + "/v1/chat/completions"
	msgs := []any{obj("role", "system", "content", p.app.system)}
	for i, t := range p.s.turns {
		msgs = append(msgs, obj("role", [2]string{"user", "assistant"}[i%2], "content", t))
	}
	e.body = obj("model", p.model, "messages", arr(msgs...), "stream", when(p.stream, true),
		"stream_options", when(p.stream && g.r.IntN(2) == 0, obj("include_usage", true)),
		"max_tokens", when(p.limit > 0, p.limit), "user", p.s.user, "temperature", 0.2,
		"tools", when(p.tools, arr(obj("type", "function", "function",
			obj("name", "find_order", "description", "Looks up an order.", "parameters", orderSchema)))),
		"response_format", when(p.json, obj("type", "json_schema", "json_schema", obj("name", "query", "strict", true, "schema", querySchema))))
}

// defaultLimit is what clients of Anthropic ask for, which must be said there.
const defaultLimit = 4096

func (g *generator) messages(e *errand, p plan) {
	e.path = g.base + "/v1/messages"
	var msgs []any
	for i, t := range p.s.turns {
		msgs = append(msgs, obj("role", [2]string{"user", "assistant"}[i%2], "content", t))
	}
	n := p.limit
	if n == 0 {
		n = defaultLimit
	}
	e.body = obj("model", p.model, "max_tokens", when(!p.wrong, n), "stream", when(p.stream, true),
		"system", arr(obj("type", "text", "text", p.app.system, "cache_control", when(p.app.caches(), obj("type", "ephemeral")))),
		"messages", arr(msgs...), "metadata", obj("user_id", p.s.user),
		"tools", when(p.tools, arr(obj("name", "find_order", "description", "Looks up an order.", "input_schema", orderSchema))))
}

// caches reports whether the application asks for its system prompt to be cached.
func (a *application) caches() bool { return len(a.system) > 1000 }

func (g *generator) generate(e *errand, p plan) {
	e.path = g.base + "/v1beta/models/" + p.model + ":generateContent"
	if p.stream {
		e.path = g.base + "/v1beta/models/" + p.model + ":streamGenerateContent?alt=sse"
	}
	var msgs []any
	for i, t := range p.s.turns {
		msgs = append(msgs, obj("role", [2]string{"user", "model"}[i%2], "parts", arr(obj("text", t))))
	}
	e.body = obj("systemInstruction", obj("parts", arr(obj("text", p.app.system))), "contents", arr(msgs...),
		"tools", when(p.tools, arr(obj("functionDeclarations",
			arr(obj("name", "find_order", "description", "Looks up an order.", "parameters", orderSchema))))),
		"generationConfig", obj("maxOutputTokens", when(p.limit > 0, p.limit), "temperature", 0.2,
			"responseMimeType", when(p.json, "application/json")))
}
