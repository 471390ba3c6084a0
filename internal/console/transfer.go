package console

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/store"
)

// Imported says what became of an import.
type Imported struct {
	Added      int       `json:"added"`
	Duplicates int       `json:"duplicates"`
	Bad        int       `json:"bad"`
	Errors     []BadLine `json:"errors"` // the first 100
}

// A BadLine is a line that is no Call.
type BadLine struct {
	Line  int    `json:"line"`
	Error string `json:"error"`
}

const (
	importBatch = 5000
	maxLine     = 1 << 20 // bytes of one Call
	maxBadLines = 100
)

func (m *Imported) bad(line int, err error) {
	m.Bad++
	if len(m.Errors) < maxBadLines {
		m.Errors = append(m.Errors, BadLine{line, call.Clip(err.Error(), 200)})
	}
}

// load imports NDJSON, a Call a line. Lines that are none are named; the rest
// is taken.
func (s *Console) load(w http.ResponseWriter, r *http.Request, _ *call.Principal) {
	// The admin may take long over an archive: the server's time for bodies does not count.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(24 * time.Hour)) // unsupported only by recorders in tests
	res, err := Import(r.Context(), s.Store, bufio.NewReader(r.Body), "import")
	if err != nil {
		s.failed(w, r, err)
		return
	}
	answer(w, http.StatusOK, res)
}

// Import reads NDJSON into s. source names where it comes from: with the text
// of a line it makes the id of a Call without one, so that the same line twice
// is the same Call.
func Import(ctx context.Context, s store.Store, r *bufio.Reader, source string) (*Imported, error) {
	res := &Imported{Errors: []BadLine{}}
	var batch []*call.Call
	flush := func() error {
		n, err := s.Import(ctx, batch)
		res.Added += n
		res.Duplicates += len(batch) - n
		batch = batch[:0]
		return err
	}
	err := eachLine(r, func(line int, text []byte, err error) error {
		c := new(call.Call)
		if err == nil {
			err = json.Unmarshal(text, c)
		}
		if err == nil {
			err = c.Check(source, string(text))
		}
		if err != nil {
			res.bad(line, err)
			return nil
		}
		if batch = append(batch, c); len(batch) == importBatch {
			return flush()
		}
		return nil
	})
	if err == nil && len(batch) > 0 {
		err = flush()
	}
	return res, err
}

var errLongLine = errors.New("the line is longer than 1 MiB")

// eachLine calls f with each line that is not blank, numbered from 1. The text
// is valid until f returns. A line that is too long comes without its text.
func eachLine(r *bufio.Reader, f func(line int, text []byte, err error) error) error {
	var text []byte
	for line := 1; ; line++ {
		text = text[:0]
		long := false
		var err error
		for {
			var part []byte
			part, err = r.ReadSlice('\n')
			if long = long || len(text)+len(part) > maxLine; !long {
				text = append(text, part...)
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				break
			}
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return &store.QueryError{Msg: "the input cannot be read on: " + err.Error()}
		}
		if long {
			if ferr := f(line, nil, errLongLine); ferr != nil {
				return ferr
			}
		} else if t := bytes.TrimSpace(text); len(t) > 0 {
			if ferr := f(line, t, nil); ferr != nil {
				return ferr
			}
		}
		if err != nil {
			return nil
		}
	}
}

// writeTimeout bounds how long a reader of an export may stall.
const writeTimeout = time.Minute

// export writes Calls as NDJSON, newest first: import takes them back.
func (s *Console) export(w http.ResponseWriter, r *http.Request, _ *call.Principal) {
	q, bad := readList(r.URL.Query())
	if bad != nil {
		fail(w, http.StatusBadRequest, "invalid_query", bad.param, bad.msg)
		return
	}
	left := q.Limit // 0: everything
	q.Limit = store.MaxPage
	rc := http.NewResponseController(w)
	out := bufio.NewWriterSize(w, 64<<10)
	enc := json.NewEncoder(out)
	for begun := false; ; begun = true {
		if left > 0 {
			q.Limit = min(left, store.MaxPage)
		}
		page, err := s.Store.List(r.Context(), q)
		if err != nil && !begun {
			s.failed(w, r, err)
			return
		}
		if err != nil {
			s.Log.Error("an export broke off", "err", err)
			panic(http.ErrAbortHandler) // the reader must not take it for whole
		}
		if !begun {
			w.Header().Set("Content-Type", "application/x-ndjson")
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("Content-Disposition", `attachment; filename="sheepgate-calls.ndjson"`)
		}
		_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout)) // unsupported only by recorders in tests
		for _, c := range page.Calls {
			if enc.Encode(c) != nil {
				return // the reader is gone
			}
		}
		if left > 0 {
			if left -= len(page.Calls); left <= 0 {
				page.Next = ""
			}
		}
		if page.Next == "" {
			_ = out.Flush() // as above
			return
		}
		q.Cursor = page.Next
	}
}
