package local

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// A log is where SQLite puts what is committed first (its write-ahead log). It
// is brought from there into the database beside whoever commits: that waits
// for the disk, which on a busy one takes longer than a Call may be unstored.
type log struct {
	by     *sql.DB // the connection that does it
	writer *sql.DB // who waits if the log is too long

	written atomic.Int64  // bytes since it was last done, about
	many    chan struct{} // has a token when they are many
	stop    chan struct{}
	stopped chan struct{}
}

const (
	logMany = 16 << 20  // bytes after which it is done: to begin the log anew is to wait for the disk, too
	logMost = 128 << 20 // of a log that never begins anew, since somebody always commits or reads
	logRest = 256       // pages that are brought into the database while others wait

	busyTimeout = 10_000 // milliseconds

	pageSize = 4 << 10 // SQLite's own
)

// noCheckpoint keeps a connection from doing it itself, and the log from staying
// as long as it once was.
const noCheckpoint = "_pragma=wal_autocheckpoint(0)&_pragma=journal_size_limit(16777216)"

// keepLog begins with what an earlier process has left.
func keepLog(by, writer *sql.DB) *log {
	l := &log{by: by, writer: writer, many: make(chan struct{}, 1), stop: make(chan struct{}), stopped: make(chan struct{})}
	l.many <- struct{}{}
	go func() {
		defer close(l.stopped)
		for {
			select {
			case <-l.many:
				_ = l.checkpoint() // what cannot be done now stays in the log
			case <-l.stop:
				return
			}
		}
	}()
	return l
}

// wrote notes that about n bytes were committed.
func (l *log) wrote(n int) {
	if l.written.Add(int64(n)) >= logMany {
		select {
		case l.many <- struct{}{}:
		default:
		}
	}
}

// checkpoint brings the log into the database. Nobody waits for it unless the
// log has become too long.
func (l *log) checkpoint() error {
	l.written.Store(0)
	const tries = 4
	for try := range tries { // each time what was committed meanwhile: less and less
		var busy, frames, done int
		if err := l.by.QueryRow("PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &frames, &done); err != nil {
			return err
		}
		if frames*pageSize > logMost && (frames-done < logRest || try == tries-1) {
			return l.empty(frames*pageSize > 4*logMost)
		}
		if done >= frames { // whoever commits next begins it anew, unless somebody reads just then
			return nil
		}
	}
	return nil
}

// empty empties a log of which little is left to be brought into the database,
// at a moment when nobody reads. Whoever wants to commit waits for that alone;
// for those who read, too, only if it must be.
func (l *log) empty(must bool) error {
	for try := range 10 {
		busy, err := l.truncate(0)
		if err != nil || !busy {
			return err
		}
		time.Sleep(time.Duration(try+1) * time.Millisecond)
	}
	if !must {
		return nil // there will be another time
	}
	_, err := l.truncate(busyTimeout)
	return err
}

// truncate waits for those who read for so many milliseconds, and reports
// whether there still were some.
func (l *log) truncate(wait int) (busy bool, err error) {
	ctx := context.Background()
	c, err := l.writer.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer c.Close()
	if _, err := c.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout(%d)", wait)); err != nil {
		return false, err
	}
	var frames, done int
	err = c.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &done)
	_, again := c.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout(%d)", busyTimeout))
	return busy, errors.Join(err, again)
}

// close must come before the connections are closed. It may be called of nil.
func (l *log) close() {
	if l != nil {
		close(l.stop)
		<-l.stopped
	}
}
