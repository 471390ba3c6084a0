package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

// A client asks a running server.
type client struct {
	base, key string
	handler   http.Handler // asked in place of a server; nil means there is one
}

// discard is the log of what has another way to say what is wrong.
var discard = slog.New(slog.DiscardHandler)

// An inside is a transport to a handler of this process.
type inside struct{ http.Handler }

// RoundTrip implements http.RoundTripper.
func (t inside) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := &answer{Response: http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Request: r, ProtoMajor: 1, ProtoMinor: 1}}
	t.ServeHTTP(w, r)
	w.Status = fmt.Sprint(w.StatusCode, " ", http.StatusText(w.StatusCode))
	w.Body = io.NopCloser(&w.text)
	return &w.Response, nil
}

// An answer is what a handler writes.
type answer struct {
	http.Response
	text bytes.Buffer
}

func (w *answer) Header() http.Header         { return w.Response.Header }
func (w *answer) WriteHeader(status int)      { w.StatusCode = status }
func (w *answer) Write(b []byte) (int, error) { return w.text.Write(b) }

// addClientFlags adds what every command that asks a server takes.
func addClientFlags(cmd *cobra.Command, url *string) {
	cmd.Flags().StringVar(url, "url", "", "address of the server (default $SHEEPGATE_URL, else http://127.0.0.1:8080)")
}

// newClient takes the address and the admin key from the flag and the environment.
func newClient(e *env, url string) (*client, error) {
	if url == "" {
		url = e.get("SHEEPGATE_URL")
	}
	if url == "" {
		url = "http://127.0.0.1:8080"
	}
	if !strings.HasPrefix(url, "http://") && !strings.HasPrefix(url, "https://") {
		return nil, exitError{exitUsage, fmt.Errorf("--url: %q does not begin with http:// or https://", url)}
	}
	key := e.get("SHEEPGATE_ADMIN_KEY")
	if key == "" {
		return nil, errors.New("SHEEPGATE_ADMIN_KEY is not set: it holds the key that the server showed at its first start (a new one: sheepgate key reset-admin)")
	}
	return &client{base: strings.TrimRight(url, "/"), key: key}, nil
}

// get is the value of a variable, "" if it is not set.
func (e *env) get(name string) string {
	value := ""
	for _, line := range e.environ {
		if v, ok := strings.CutPrefix(line, name+"="); ok {
			value = v
		}
	}
	return value
}

// post sends a body and reads the answer; what it was about is for the error.
func post[T any](ctx context.Context, c *client, path, contentType string, body io.Reader, what string) (*T, error) {
	text, err := c.send(ctx, "POST", path, contentType, body)
	if err != nil {
		return nil, err
	}
	defer text.Close()
	out := new(T)
	if err := json.NewDecoder(text).Decode(out); err != nil {
		return nil, fmt.Errorf("the answer to the %s cannot be read: %w", what, err)
	}
	return out, nil
}

// send makes a request and gives the body of its answer, which the caller closes.
func (c *client) send(ctx context.Context, method, path, contentType string, body io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	asks := http.DefaultClient
	if c.handler != nil {
		asks = &http.Client{Transport: inside{c.handler}}
	}
	resp, err := asks.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no answer from %s (is `sheepgate serve` running there?): %w", c.base, errors.Unwrap(err))
	}
	if resp.StatusCode/100 == 2 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var answer struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what came is enough for a message
	if json.Unmarshal(b, &answer) != nil || answer.Error.Message == "" {
		return nil, fmt.Errorf("%s answers %s", c.base, resp.Status)
	}
	if c.handler != nil {
		return nil, errors.New(answer.Error.Message)
	}
	return nil, fmt.Errorf("%s answers %s: %s", c.base, resp.Status, answer.Error.Message)
}

// do makes a request with a JSON body, nil for none, and reads a JSON answer.
func (c *client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	contentType := ""
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body, contentType = bytes.NewReader(b), "application/json"
	}
	r, err := c.send(ctx, method, path, contentType, body)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := json.NewDecoder(r).Decode(out); err != nil {
		return fmt.Errorf("the answer to %s cannot be read: %w", path, err)
	}
	return nil
}
