//go:build unix

package socket

import (
	"errors"
	"syscall"
)

// Bare reports whether a file descriptor can be read with its number alone.
const Bare = true

// Read reads what is there, 0 bytes at the end, or fails with an error that is
// Again. The descriptor must be one that does not block.
func Read(fd uintptr, p []byte) (int, error) {
	for {
		if n, err := sysRead(int(fd), p); !errors.Is(err, syscall.EINTR) {
			return max(n, 0), err
		}
	}
}

func write(fd uintptr, p []byte) (int, error) {
	for {
		if n, err := sysWrite(int(fd), p); !errors.Is(err, syscall.EINTR) {
			return max(n, 0), err
		}
	}
}

// Again says of an error that nothing is there yet, or no room.
func Again(err error) bool { return errors.Is(err, syscall.EAGAIN) }
