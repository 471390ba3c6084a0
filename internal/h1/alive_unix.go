//go:build unix

package h1

import (
	"errors"
	"syscall"
)

// silent reports whether a connection is open and has nothing to read. It does
// not wait.
func silent(fd uintptr) bool {
	var one [1]byte
	n, err := receive(fd, one[:])
	return n <= 0 && again(err)
}

const canReceive = true

func receive(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), p)
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}

// again says of an error that there is nothing to read yet.
func again(err error) bool { return errors.Is(err, syscall.EAGAIN) }
