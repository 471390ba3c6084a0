package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sheepgate/sheepgate/internal/config"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestUnit holds the service against what the program does, and lets systemd
// verify it where there is one.
func TestUnit(t *testing.T) {
	text := read(t, "deploy/sheepgate.service")
	keys := map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		if k, v, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			keys[k] = v
		}
	}
	for key, want := range map[string]string{"DynamicUser": "yes", "StateDirectory": "sheepgate", "ProtectSystem": "strict", "NoNewPrivileges": "yes", "Restart": "on-failure", "CapabilityBoundingSet": "", "UMask": "0077"} {
		if got, ok := keys[key]; !ok || got != want {
			t.Errorf("%s=%s, want %s", key, got, want)
		}
	}
	stop, err := strconv.Atoi(keys["TimeoutStopSec"])
	if need := time.Duration(config.Default().Timeouts.Drain) + lastWords + 5*time.Second; err != nil || time.Duration(stop)*time.Second <= need {
		t.Errorf("TimeoutStopSec=%s, a stop may take %v", keys["TimeoutStopSec"], need)
	}
	if n, err := strconv.Atoi(keys["LimitNOFILE"]); err != nil || n < 2*mostRequests+otherFiles {
		t.Errorf("LimitNOFILE=%s is too few for %d requests", keys["LimitNOFILE"], mostRequests)
	}
	if got, want := keys["RestartPreventExitStatus"], "2 3"; got != want || exitUsage != 2 || exitConfig != 3 {
		t.Errorf("RestartPreventExitStatus=%s, want %s", got, want)
	}
	args := strings.Fields(keys["ExecStart"])
	if r := cli(t, nil, append(args[1:], "--help")...); r.code != exitOK {
		t.Errorf("ExecStart: %+v", r)
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("systemd is not installed: systemd-analyze verify is skipped")
		return
	}
	self, err := os.Executable() // a program has to be there
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, "sheepgate.service", strings.Replace(text, args[0], self, 1))
	if out, err := exec.Command(analyze, "verify", "--man=no", file).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// TestDockerfile holds the image against what the program does: it runs as
// nobody in particular, and is reached from outside by explicit wish alone.
func TestDockerfile(t *testing.T) {
	text := read(t, "Dockerfile")
	for _, m := range regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(text, -1) {
		if strings.Contains(m[1], "/") {
			t.Errorf("FROM %s names a registry", m[1])
		}
	}
	mod := regexp.MustCompile(`(?m)^go (1\.[0-9]+)`).FindStringSubmatch(read(t, "go.mod"))
	if mod == nil || !strings.Contains(text, "FROM golang:"+mod[1]+" AS build") {
		t.Errorf("it is not built with Go %v", mod)
	}
	_, image, ok := strings.Cut(text, "\nFROM scratch\n")
	if !ok {
		t.Fatal("the image is not made from scratch")
	}
	if !regexp.MustCompile(`(?m)^USER [1-9][0-9]+:[1-9][0-9]+$`).MatchString(image) {
		t.Error("its user is not a number other than root")
	}
	if strings.Contains(image, "LISTEN") || strings.Contains(image, "0.0.0.0") {
		t.Error("it listens to everybody by itself")
	}
	for _, m := range regexp.MustCompile(`(?m)CMD (\[.*\])$`).FindAllStringSubmatch(image, -1) {
		var args []string
		if err := json.Unmarshal([]byte(m[1]), &args); err != nil {
			t.Fatal(err)
		}
		if args[0] == "/sheepgate" {
			args = args[1:]
		}
		if r := cli(t, nil, append(args, "--help")...); r.code != exitOK {
			t.Errorf("%s: %+v", m[0], r)
		}
	}
	_, port, _ := strings.Cut(config.Default().Listen, ":")
	if !strings.Contains(image, "\nEXPOSE "+port+"\n") || !strings.Contains(image, "\nVOLUME /data\n") || !strings.Contains(image, "SHEEPGATE_DATA=/data") {
		t.Error("its port or its data folder is not the program's")
	}
}
