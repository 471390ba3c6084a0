package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// content is the 1 KB answer: what makes a reply whole.
var content = strings.Repeat("All of the answer must arrive, and in order. ", 16) + "The end."

var plainReply = func() []byte {
	body := fmt.Sprintf(`{"id":"chatcmpl-bench0123456789","object":"chat.completion","created":1790000000,"model":"gpt-4.1-2025-04-14","choices":[{"index":0,"message":{"role":"assistant","content":%q,"refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":420,"completion_tokens":180,"total_tokens":600,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}},"service_tier":"default"}`, content)
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: req_bench\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}()

// chunkHead starts every chunk of a stream: with a word of text about 290 bytes.
const chunkHead = `data: {"id":"chatcmpl-bench0123456789","object":"chat.completion.chunk","created":1790000000,"model":"gpt-4.1-2025-04-14","service_tier":"default","system_fingerprint":"fp_bench","choices":[`

var (
	streamHead  = []byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n")
	streamDelta = chunk(chunkHead + `{"index":0,"delta":{"content":" sheep"},"logprobs":null,"finish_reason":null}],"obfuscation":"abcdefghij"}` + "\n\n")
	streamStop  = chunk(chunkHead + `{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}` + "\n\n")
	streamUsage = chunk(chunkHead + `],"usage":{"prompt_tokens":420,"completion_tokens":100,"total_tokens":520}}` + "\n\n")
	streamDone  = append(chunk("data: [DONE]\n\n"), "0\r\n\r\n"...)
)

func chunk(s string) []byte { return fmt.Appendf(nil, "%x\r\n%s\r\n", len(s), s) }

// serveUpstream answers every request on a loopback port that it prints. It
// knows just enough HTTP/1.1 to be cheap: a request with "stream":true gets
// max_tokens events, seed milliseconds apart.
func serveUpstream(ctx context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	context.AfterFunc(ctx, func() { l.Close() })
	for {
		c, err := l.Accept()
		if err != nil {
			return ctx.Err()
		}
		go answer(c) // ends with its connection, at the latest with the process
	}
}

func answer(c net.Conn) {
	defer c.Close()
	br := bufio.NewReaderSize(c, 4096)
	var body []byte
	for {
		n, err := readHead(br)
		if err != nil {
			return
		}
		if cap(body) < n {
			body = make([]byte, n)
		}
		body = body[:n]
		if _, err := io.ReadFull(br, body); err != nil {
			return
		}
		if !bytes.Contains(body[max(0, n-200):], []byte(`"stream":true`)) && !bytes.Contains(body[:min(n, 200)], []byte(`"stream":true`)) {
			_, err = c.Write(plainReply)
		} else {
			usage := bytes.Contains(body, []byte(`"include_usage":true`))
			events, pace := number(body, `"max_tokens":`), number(body, `"seed":`)
			if cap(body) > 64<<10 {
				body = nil
			}
			err = stream(c, events, time.Duration(pace)*time.Millisecond, usage)
		}
		if err != nil {
			return
		}
	}
}

func stream(c net.Conn, events int, pace time.Duration, usage bool) error {
	if _, err := c.Write(streamHead); err != nil {
		return err
	}
	start := time.Now()
	for i := range events {
		if i > 0 {
			time.Sleep(time.Until(start.Add(time.Duration(i) * pace)))
		}
		if _, err := c.Write(streamDelta); err != nil {
			return err
		}
	}
	end := streamStop
	if usage {
		end = append(bytes.Clone(end), streamUsage...)
	}
	_, err := c.Write(append(bytes.Clone(end), streamDone...))
	return err
}

// readHead reads a request's head and returns its Content-Length. A chunked
// body has none: the proxies measured here send the length that they got.
func readHead(br *bufio.Reader) (int, error) {
	length, chunked := 0, false
	for first := true; ; first = false {
		line, err := br.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			if chunked {
				return 0, fmt.Errorf("chunked request")
			}
			return length, nil
		}
		if first {
			continue
		}
		name, value, _ := bytes.Cut(line, []byte{':'})
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			length, err = strconv.Atoi(string(bytes.TrimSpace(value)))
			if err != nil {
				return 0, err
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = true
		}
	}
}

// number is the integer after the first key in body, or 1.
func number(body []byte, key string) int {
	_, rest, ok := bytes.Cut(body, []byte(key))
	if !ok {
		return 1
	}
	n := 0
	for _, b := range rest {
		if b < '0' || b > '9' {
			break
		}
		n = 10*n + int(b-'0')
	}
	return n
}
