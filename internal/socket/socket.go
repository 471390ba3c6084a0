// Package socket reads and writes TCP connections without the scheduler's
// noticing.
//
// Go takes any system call for one that may block: the thread gives its
// processor away when it stays too long, which a write to a socket does as soon
// as the kernel delivers what is written itself. Other threads are woken and the
// runtime's watchdog goes on looking every 20 microseconds. But a socket of Go's
// does not wait for the other side: here the call is made where it stands.
// BenchmarkEcho compares the two.
//
// What is waited for, deadlines and closing are package net's as ever. Nothing
// here knows what is read or written.
package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// most is how much is read or written in one such call, bytes: meanwhile the
// garbage collector waits, if it wants this thread to. What is longer goes
// through package net.
const most = 64 << 10

// A Conn is a TCP connection. At a time, one goroutine may read and one write.
type Conn struct {
	net.Conn
	raw         syscall.RawConn
	read, write func(fd uintptr) bool // made once

	in    []byte // of the read under way, and how it went
	inN   int
	inErr error

	out    []byte // what is left of the write under way
	outN   int
	outErr error
}

// New is c, quicker. What is no TCP connection with a descriptor is c itself.
func New(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok || !Bare {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c
	}
	s := &Conn{Conn: c, raw: raw}
	s.read = func(fd uintptr) bool {
		s.inN, s.inErr = Read(fd, s.in)
		return !Again(s.inErr)
	}
	s.write = func(fd uintptr) bool {
		for len(s.out) > 0 {
			n, err := write(fd, s.out)
			if Again(err) {
				return false
			}
			if err == nil && n == 0 {
				err = io.ErrUnexpectedEOF
			}
			if s.outErr = err; err != nil {
				break
			}
			s.outN += n
			s.out = s.out[n:]
		}
		return true
	}
	return s
}

// SyscallConn implements syscall.Conn.
func (s *Conn) SyscallConn() (syscall.RawConn, error) { return s.raw, nil }

// CloseWrite ends what is written.
func (s *Conn) CloseWrite() error { return s.Conn.(*net.TCPConn).CloseWrite() }

// Read implements net.Conn.
func (s *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(p) > most {
		return s.Conn.Read(p)
	}
	s.in = p
	err := s.raw.Read(s.read)
	s.in = nil
	switch {
	case err != nil:
		return 0, s.named("read", err)
	case s.inErr != nil:
		return 0, s.failed("read", s.inErr)
	case s.inN == 0:
		return 0, io.EOF
	}
	return s.inN, nil
}

// Write implements net.Conn.
func (s *Conn) Write(p []byte) (int, error) {
	if len(p) > most {
		return s.Conn.Write(p)
	}
	s.out, s.outN, s.outErr = p, 0, nil
	err := s.raw.Write(s.write)
	s.out = nil
	if err != nil {
		err = s.named("write", err)
	} else if s.outErr != nil {
		err = s.failed("write", s.outErr)
	}
	return s.outN, err
}

func (s *Conn) failed(op string, errno error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
}

// named calls an operation what package net calls its own: who reads an error
// tells one of reading by that.
func (s *Conn) named(op string, err error) error {
	var e *net.OpError
	if errors.As(err, &e) {
		return &net.OpError{Op: op, Net: e.Net, Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: e.Err}
	}
	return err
}
