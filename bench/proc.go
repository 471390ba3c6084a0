package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A proc is a running process with its children.
type proc struct {
	cmd  *exec.Cmd
	addr string
	log  string // the file of its output
}

// startSelf runs this program in another role and reads its address.
func startSelf(role string, args ...string) (*proc, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, append([]string{"-role", role}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, fmt.Errorf("%s did not start: %w", role, err)
	}
	return &proc{cmd: cmd, addr: strings.TrimSpace(line)}, nil
}

// stop ends the process politely, and after five seconds otherwise.
func (p *proc) stop() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	t := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
	_ = p.cmd.Wait() // killed or not, it has ended
	t.Stop()
}

// pids are the process and its children.
func (p *proc) pids() []int {
	pids := []int{p.cmd.Process.Pid}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range stats {
		if s, err := readStat(f); err == nil && s.parent == pids[0] {
			pids = append(pids, s.pid)
		}
	}
	return pids
}

// cpu is the processor time used so far, user and system. The kernel counts it
// exactly and shows it in ticks of 10 ms.
func (p *proc) cpu() time.Duration {
	if p == nil {
		return 0
	}
	var ticks int
	for _, pid := range p.pids() {
		if s, err := readStat(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
			ticks += s.ticks
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
}

func (p *proc) rss() float64  { return p.memory("VmRSS:") }
func (p *proc) peak() float64 { return p.memory("VmHWM:") }

// memory sums a field of /proc/PID/status over the processes, in MiB.
func (p *proc) memory(field string) float64 {
	if p == nil {
		return 0
	}
	kib := 0
	for _, pid := range p.pids() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == field {
				n, _ := strconv.Atoi(f[1])
				kib += n
			}
		}
	}
	return float64(kib) / 1024
}

type procStat struct{ pid, parent, ticks int }

func readStat(file string) (procStat, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return procStat{}, err
	}
	head, rest, ok := bytes.Cut(b, []byte(" ("))
	end := bytes.LastIndexByte(rest, ')') // the name may hold anything
	if !ok || end < 0 {
		return procStat{}, io.ErrUnexpectedEOF
	}
	f := bytes.Fields(rest[end+1:])
	if len(f) < 13 {
		return procStat{}, io.ErrUnexpectedEOF
	}
	at := func(i int) int { n, _ := strconv.Atoi(string(f[i])); return n }
	pid, err := strconv.Atoi(string(head))
	return procStat{pid: pid, parent: at(1), ticks: at(11) + at(12)}, err
}
