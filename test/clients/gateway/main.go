// Command gateway starts what the client tests talk to: the real sheepgate
// binary, built from this tree, in front of a simulated provider that speaks
// OpenAI's, Anthropic's and Gemini's formats and answers everything it is
// asked. It prints one line of JSON with url, key and admin_key, and ends when
// its standard input does.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sheepgate/sheepgate/internal/provider/sim"
)

const conf = `listen: %[1]s
data: %[2]s
admin_key: env:SHEEPGATE_ADMIN_KEY
providers:
  openai:    { base_url: "%[3]s/openai/v1", key: env:UPSTREAM_KEY }
  anthropic: { base_url: "%[3]s/anthropic/v1", key: env:UPSTREAM_KEY }
  gemini:    { base_url: "%[3]s/gemini/v1beta", key: env:UPSTREAM_KEY }
keys:
  clients: { key: env:CLIENT_KEY, team: test }
`

const adminKey, clientKey, upstreamKey = "admin-key-of-the-client-tests", "client-key-of-the-client-tests", "upstream-key-of-the-client-tests"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dir, err := os.MkdirTemp("", "sheepgate-clients-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "sheepgate")
	if out, err := exec.Command("go", "build", "-o", binary, "./cmd/sheepgate").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	upstream := &http.Server{Handler: sim.New(sim.Options{Seed: 1, Speed: 100, Calm: true, Key: upstreamKey})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = upstream.Serve(l) // until Close below
	}()
	defer func() {
		upstream.Close()
		<-served
	}()

	addr, err := freePort()
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "sheepgate.yaml")
	text := fmt.Appendf(nil, conf, addr, filepath.Join(dir, "data"), "http://"+l.Addr().String())
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, binary, "serve", "--config", file)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = append(os.Environ(), "SHEEPGATE_ADMIN_KEY="+adminKey, "CLIENT_KEY="+clientKey, "UPSTREAM_KEY="+upstreamKey)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // ended by our own signal
	}()
	if err := ready("http://" + addr + "/readyz"); err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]string{"url": "http://" + addr, "key": clientKey, "admin_key": adminKey}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func ready(url string) error {
	for range 100 {
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("%s does not say 200", url)
}
