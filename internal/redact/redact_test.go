package redact

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"
)

const secret = "sk-0123456789abcdef"

func TestSecrets(t *testing.T) {
	check := func(in, want string) {
		t.Helper()
		if got := Secrets(in, []string{secret, "short"}); got != want {
			t.Errorf("Secrets(%q) = %q, want %q", in, got, want)
		}
	}
	check("", "")
	check("nothing short", "nothing short")
	check("a "+secret+" b "+secret, "a [redacted] b [redacted]")
	check("cut within "+secret[:12], "cut within [redacted]")
	check("cut within "+secret[:minSecret], "cut within [redacted]")
	check("too little to tell "+secret[:minSecret-1], "too little to tell "+secret[:minSecret-1])
	check(secret[:12]+" in the middle", secret[:12]+" in the middle")
}

// The numbers are made up; those of cards are the networks' own for tests.
func TestPatterns(t *testing.T) {
	check := func(in, want string) {
		t.Helper()
		r := Redactor{Patterns: true}
		if got := string(r.Body([]byte(in))); got != want {
			t.Errorf("%q\n became %q\n    want %q", in, got, want)
		}
	}
	same := func(in string) { t.Helper(); check(in, in) }

	check("write to jane.doe+x@mail.example.co.kr.", "write to [email].")
	check("<o'neil@example.com>, b@example.org", "<[email]>, [email]")
	check("홍길동@한국.한국 또는 a_b%c@sub-domain.example", "[email] 또는 [email]")
	same("a @ b.c, @user, user@host, user@1.2.3.4, @example.com, a@b.c")

	check("call +82 10-1234-5678 or +1 (415) 555-2671", "call [phone] or [phone]")
	check("전화는010-1234-5678로, 02-345-6789, 031-123-4567, 01012345678", "전화는[phone]로, [phone], [phone], [phone]")
	check("(415) 555-2671, 415-555-2671, 415.555.2671, 1-800-555-0199", "[phone], [phone], [phone], [phone]")
	check("+442071838750", "[phone]")
	same("1763880000 1763880000123 2026-11-25 12:34:56.789 192.168.100.200 3.14159265358979 v1.2.3 10-20-30 555-2671")
	same("0123456789 00000000 010-12-345678 1234567890123456789012345")

	check("card 4111 1111 1111 1111 12/26", "card [card] 12/26")
	check("5555-5555-5555-4444, 378282246310005, 6011111111111117 3530111333300000", "[card], [card], [card] [card]")
	same("4111 1111 1111 1112, 1234567812345678, 1763880000123456")

	check("주민번호 900101-1234568.", "주민번호 [resident-number].")
	check("9001011234568", "[resident-number]")
	check("201015-3123456 was born after October 2020", "[resident-number] was born after October 2020")
	same("900101-1234567, 901301-1234568, 9001011234567890, 200915-3123451")

	check("key "+secret+"z9Q, AKIAIOSFODNN7EXAMPLE, ghp_0123456789abcdefghij0123456789abcdef.", "key [key], [key], [key].")
	check("sk-ant-api03-AbCdEfGhIjKlMnOp-Qr_St", "[key]")
	same("sk-learn, sk-learn-something-that-is-long, risk-0123456789abcdef0123, disk-")
	check("Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U ok", "Bearer [jwt] ok")
	same("eyJ, eyJhbGciOiJIUzI1NiJ9, eyJ.eyJ.x")
	check("a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nb", "a\n[key]\nb")
	check("-----BEGIN PRIVATE KEY-----\nMIIE", "[key]")
	same("-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----")

	// JSON stays JSON, whatever the escapes.
	check(`{"a@example.com":["\u0061\u0040example.com","\"b@example.com\"\n"],"n":4111111111111111,"t":1763880000123}`,
		`{"[email]":["[email]","\"[email]\"\n"],"n":"[card]","t":1763880000123}`)
	check(`{"content":"cut in the middle of a@exam`, `{"content":"cut in the middle of a@exam`)
	check(`{"content":"cut \u00`, `{"content":"cut \u00`)
	check(`{"content":"a@example.com \u00`, `{"content":"[email] 00`)
	// What is no JSON, though it begins as if it were.
	check("[note] write to a@example.com, or call\n010-1234-5678", "[note] write to [email], or call\n[phone]")
	check(`{to: a@example.com, "or": b@example.com, n: 4111 1111 1111 1111 }`, `{to: [email], "or": [email], n: [card] }`)
	check(`[x] -----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nMIIE\n-----END RSA PRIVATE KEY-----, "a\u0040example.com"`, `[x] [key], "[email]"`)
	check("data: [note] a@example.com, {\"b\": \"c@example.com\"}\n\ndata: {\"d\": \"e@example.com\"}", "data: [note] [email], {\"b\": \"[email]\"}\n\ndata: {\"d\": \"[email]\"}")
	check("\xef\xbb\xbf"+`{"n":4111111111111111}`, "\xef\xbb\xbf"+`{"n":"[card]"}`)
	same(`{"a": true, "b": null, "c": [false, -1.5e-7, 0 ]}`)
	// JSON within a text, as the arguments of tools are, has escapes of its own.
	check(`{"arguments":"{\"to\":\"Call\\n010-1234-5678\\t`+secret+`z9Q\"}"}`, `{"arguments":"{\"to\":\"Call\\n[phone]\\t[key]\"}"}`)
	check(`\nj@example.com \u003c4111111111111111\u003e \ud64d\uae38.a@example.com\r900101-1234568\u0026`,
		`\n[email] \u003c[card]\u003e [email]\r[resident-number]\u0026`)
	same(`\n \u00 \ \u003c@example.com C:\new\table\u0`)
}

func TestKnownSecrets(t *testing.T) {
	r := Redactor{Secrets: []string{secret}}
	got := string(r.Body([]byte(`{"error":"no \u0073k-0123456789abcdef","mail":"a@example.com"}`)))
	if want := `{"error":"no [redacted]","mail":"a@example.com"}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	cut := func(in, want string) {
		t.Helper()
		if got := string(r.Body([]byte(in))); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	cut(`{"error":"no `+secret[:12], `{"error":"no [redacted]`)
	cut("data: {\"text\":\"no "+secret[:4]+"\"}\n\ndata: {\"text\":\""+secret[4:12], "data: {\"text\":\"no [redacted]\"}\n\ndata: {\"text\":\"")
	cut("data: {\"text\":\"no "+secret[:4]+"\"}\n\ndata: {\"text\":\""+secret[4:12]+"\"}\n\n", "data: {\"text\":\"no [redacted]\"}\n\ndata: {\"text\":\"\"}\n\n")
	cut("no "+secret[:12], "no [redacted]")
	cut("{"+secret, "{[redacted]")
	cut("[no: "+secret+"]", "[no: [redacted]]")
	cut("[no "+secret[:12], "[no [redacted]")
	r.Secrets = append(r.Secrets, `p,"ssw0rd"{123}`)
	cut(`[no p,"ssw0rd"{123}, no "\u0073k-0123456789abcdef"`, `[no [redacted], no "[redacted]"`)
	cut(`{"error":"no `+secret[:12]+`"}`, `{"error":"no `+secret[:12]+`"}`)
	body := []byte(`{"nothing":"here"}`)
	if got := r.Body(body); &got[0] != &body[0] {
		t.Error("a body without secrets was copied")
	}
}

// However a stream cuts a text up, nothing of what is cut out of it is left,
// and the rest is as it was.
func TestStream(t *testing.T) {
	const text = "Write to jane.doe@example.com or call 010-1234-5678; the card is 4111 1111 1111 1111, " + secret + " the key. 안녕"
	const want = "Write to [email] or call [phone]; the card is [card], [key] the key. 안녕"
	forms := map[string]struct{ frame, path string }{
		"openai":    {"data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":%d,\"delta\":{\"content\":%s}}]}\n\n", "content"},
		"tool":      {"data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":%d,\"function\":{\"arguments\":%s}}]}}]}\r\n\r\n", "arguments"},
		"anthropic": {"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":%d,\"delta\":{\"type\":\"text_delta\",\"text\":%s}}\n\n", "text"},
		"gemini":    {"data: {\"candidates\": [{\"index\":%d,\"content\": {\"parts\": [{\"text\": %s}]}}]}\r\n\r\n", "text"},
	}
	for name, form := range forms {
		for seed := range uint64(50) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			left := [2][]rune{[]rune(text), []rune(text)} // two choices, mixed
			var body strings.Builder
			for len(left[0])+len(left[1]) > 0 {
				k := rnd.IntN(2)
				n := min(1+rnd.IntN(6), len(left[k]))
				q, _ := json.Marshal(string(left[k][:n]))
				fmt.Fprintf(&body, form.frame, k, q)
				left[k] = left[k][n:]
			}
			body.WriteString("data: [DONE]\n\n")
			r := Redactor{Patterns: true}
			var got [2]string
			for line := range strings.Lines(string(r.Body([]byte(body.String())))) {
				data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: {")
				if !ok {
					continue
				}
				var v any
				if err := json.Unmarshal([]byte("{"+data), &v); err != nil {
					t.Fatalf("%s: %v: %s", name, err, line)
				}
				k := 0
				if strings.Contains(data, `"index":1`) {
					k = 1
				}
				got[k] += member(v, form.path)
			}
			if got != [2]string{want, want} {
				t.Fatalf("%s, seed %d:\n%q\nwant %q", name, seed, got, want)
			}
		}
	}
}

func member(v any, name string) (s string) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			s += member(e, name)
		}
	case map[string]any:
		for k, e := range v {
			if text, ok := e.(string); ok && k == name {
				s += text
			}
			s += member(e, name)
		}
	}
	return s
}

// Hostile texts take time in proportion to their length.
func TestLinear(t *testing.T) {
	took := func(s string) time.Duration {
		best := time.Hour
		for range 4 {
			r, start := Redactor{Patterns: true}, time.Now()
			r.Body([]byte(s))
			best = min(best, time.Since(start))
		}
		return best
	}
	for _, s := range []string{"@", "a@", "1", "1-", "1 ", "+1 ", "(", "eyJ", "eyJa.", "eyJ-", "eyJaaaaaaaaaa-", "sk-", "sk-a1", "-----BEGIN PRIVATE KEY-----", "-", "a.", "가@", `{"a":"`, `\u0040`, "data: {", "data: {\"text\":\"1\"}\n"} {
		const n = 1 << 15
		var small, large time.Duration
		slow := true
		for try := 0; slow && try < 5; try++ { // a machine that is busy elsewhere is not so each time
			small, large = took(strings.Repeat(s, n/len(s))), took(strings.Repeat(s, 16*n/len(s)))
			slow = large > 100*small && large > 10*time.Millisecond
		}
		if slow {
			t.Errorf("%q: %v, and %v for sixteen times as many", s, small, large)
		}
	}
}

// What is nested deep takes no more than what is not: a path as long as the
// body for each of its texts would be more memory than there is.
func TestDeep(t *testing.T) {
	body := []byte(strings.Repeat("[", 1<<15) + strings.Repeat(`{"text":"a@example.com"},`, 1<<11))
	r := Redactor{Patterns: true}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got := r.Body(body)
	runtime.ReadMemStats(&after)
	if n := bytes.Count(got, []byte("[email]")); n != 1<<11 {
		t.Errorf("%d of %d are cut out", n, 1<<11)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 32<<20 {
		t.Errorf("%d bytes of memory for %d of body", n, len(body))
	}
}

func FuzzBody(f *testing.F) {
	for _, s := range []string{`{"a":"b@example.com"}`, "data: {\"text\":\"b@exam\"}\n\ndata: {\"text\":\"ple.com\"}\n\n", `["\ud83d","4111111111111111",4111111111111111]`,
		"call +82 10-1234-5678", `{"` + secret, "-----BEGIN PRIVATE KEY-----", `{"index":1,"text":"a\u0040b.cc"}`, "{" + secret, "[1 " + secret + ",true]"} {
		f.Add([]byte(s))
	}
	r := Redactor{Secrets: []string{secret}, Patterns: true}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		got := r.Body(body)
		if !bytes.Equal(body, before) {
			t.Fatal("the body was changed in place")
		}
		if kindOf(body) == jsonText && json.Valid(body) && !json.Valid(got) {
			t.Fatalf("%q became %q, which is no JSON", body, got)
		}
		if bytes.Contains(got, []byte(secret)) {
			t.Fatalf("%q holds the secret", got)
		}
	})
}

func BenchmarkBody(b *testing.B) {
	text := strings.Repeat("Summarise this: the quick brown fox jumps over 13 lazy dogs on 2026-11-25. ", 27)
	body, _ := json.Marshal(map[string]any{"model": "gpt-4.1", "messages": []any{map[string]any{"role": "user", "content": text}}})
	r := Redactor{Secrets: []string{secret}, Patterns: true}
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		r.Body(body)
	}
}
