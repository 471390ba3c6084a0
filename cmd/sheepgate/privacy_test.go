package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// TestPrivacy: of prompts and answers the disk gets what `privacy` says, and the
// provider's key never.
func TestPrivacy(t *testing.T) {
	const secret = "sk-privacy-provider-secret-1"
	const said = "I am jane.doe@example.com, 010-1234-5678, 900101-1234568, card 4111 1111 1111 1111"
	private := []string{"jane.doe@example.com", "jane.doe", "010-1234-5678", "900101-1234568", "4111 1111 1111 1111"}
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case bytes.Contains(body, []byte(`"echo"`)): // as some providers do
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintf(w, `{"error":{"message":"Incorrect API key provided: %s","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}`, r.Header.Get("Authorization"))
		case bytes.Contains(body, []byte(`"stream":true`)):
			w.Header().Set("Content-Type", "text/event-stream")
			for _, piece := range strings.SplitAfter(said, "e") {
				q, _ := json.Marshal(piece)
				fmt.Fprintf(w, "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":%s},\"finish_reason\":null}]}\n\n", q)
			}
			io.WriteString(w, "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":5,\"total_tokens\":14}}\n\ndata: [DONE]\n\n")
		default:
			q, _ := json.Marshal(said + " " + secret)
			fmt.Fprintf(w, `{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":%s},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14}}`, q)
		}
	}))
	t.Cleanup(up.Close)
	for _, mode := range []string{"off", "redacted", "full"} {
		t.Run(mode, func(t *testing.T) {
			s := startTest(t, fmt.Sprintf("providers: { openai: { base_url: %s/v1, key: %s } }\nkeys: { app: { key: privacy-client-key-0123 } }\nprivacy: { bodies: %s }\n", up.URL, secret, mode))
			ask := func(text, more string) (id, reply string) {
				t.Helper()
				q, _ := json.Marshal(text)
				res, b := s.do(t, "POST", "/v1/chat/completions", "privacy-client-key-0123", strings.NewReader(`{"model":"openai/gpt-4.1"`+more+`,"messages":[{"role":"user","content":`+string(q)+`}]}`))
				return res.Header.Get("Sheepgate-Call-Id"), string(b)
			}
			plain, reply := ask(said, "")
			if !strings.Contains(reply, said) {
				t.Errorf("the client got %s", reply)
			}
			streamed, _ := ask(said, `,"stream":true`)
			echo, reply := ask("echo", "")
			if strings.Contains(reply, secret) {
				t.Errorf("the client got the provider's key: %s", reply)
			}
			for _, id := range []string{plain, streamed, echo} {
				s.call(t, id) // it is stored
			}
			for _, id := range []string{plain, streamed, echo} {
				res, b := s.do(t, "GET", "/api/v1/calls/"+id+"/body", testAdmin, nil)
				if mode == "off" {
					if res.StatusCode != http.StatusNotFound {
						t.Errorf("%d: %s", res.StatusCode, b)
					}
					continue
				}
				var kept struct{ Request, Response string }
				if err := json.Unmarshal(b, &kept); err != nil || res.StatusCode != http.StatusOK {
					t.Fatalf("%d: %s", res.StatusCode, b)
				}
				if strings.Contains(string(b), secret) {
					t.Errorf("the provider's key was kept: %s", b)
				}
				if !json.Valid([]byte(kept.Request)) || id == plain && !json.Valid([]byte(kept.Response)) {
					t.Errorf("not JSON any more: %s", b)
				}
				if id == echo {
					continue
				}
				for _, p := range private {
					if (mode == "full") != strings.Contains(kept.Request, p) {
						t.Errorf("%s: %q in the request %s", mode, p, kept.Request)
					}
					if id == plain && (mode == "full") != strings.Contains(kept.Response, p) {
						t.Errorf("%s: %q in the reply %s", mode, p, kept.Response)
					}
				}
				if mode == "redacted" && (!strings.Contains(kept.Response, "[email]") || !strings.Contains(kept.Response, "[card]") || !strings.Contains(kept.Request, "[resident-number]")) {
					t.Errorf("%s: %s", mode, b)
				}
			}
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := s.close(ctx); err != nil {
				t.Fatal(err)
			}
			for _, p := range append([]string{secret}, private...) {
				if (p == secret || mode != "full") && onDisk(t, s.data, p) {
					t.Errorf("%s: %q is on the disk", mode, p)
				}
				if strings.Contains(s.logs.String(), p) {
					t.Errorf("%s: %q is in the log", mode, p)
				}
			}
			if mode == "full" && !onDisk(t, s.data, private[0]) {
				t.Error("what is kept was not found: this test cannot see")
			}
		})
	}
}

// onDisk looks for text in the files of a folder, and in what is compressed in
// them.
func onDisk(t *testing.T, dir, text string) bool {
	t.Helper()
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	found := false
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found = found || bytes.Contains(b, []byte(text))
		magic := []byte{0x28, 0xb5, 0x2f, 0xfd}
		for at := bytes.Index(b, magic); at >= 0; {
			frame := b[at:]
			if plain, _ := z.DecodeAll(frame, nil); bytes.Contains(plain, []byte(text)) { // what follows the frame is an error
				found = true
			}
			i := bytes.Index(b[at+4:], magic)
			if i < 0 {
				break
			}
			at += 4 + i
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
