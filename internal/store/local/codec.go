package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/sheepgate/sheepgate/internal/call"
)

// The tail's rows are batches of Calls in a plain binary form: a version, the
// number of Calls, each of them column by column, and a checksum. Everything
// that is not derived is there: numbers as varints, strings with their length.
//
// A column that comes later is appended to columns and raises batchVersion.
const batchVersion = 1

var errBatch = errors.New("not a batch of calls")

var checksum = crc32.MakeTable(crc32.Castagnoli)

// appendBatch encodes calls.
func appendBatch(dst []byte, calls []*call.Call) []byte {
	start := len(dst)
	dst = append(dst, batchVersion)
	dst = binary.AppendUvarint(dst, uint64(len(calls)))
	for _, c := range calls {
		for i := range columns {
			col := &columns[i]
			switch {
			case col.derived():
			case col.encode != nil:
				dst = col.encode(dst, c)
			case col.str != nil:
				s := col.str(c)
				dst = binary.AppendUvarint(dst, uint64(len(s)))
				dst = append(dst, s...)
			case col.null != nil && col.null(c):
				dst = append(dst, 0)
			case col.null != nil:
				dst = append(dst, 1)
				dst = binary.AppendVarint(dst, col.num(c))
			default:
				dst = binary.AppendVarint(dst, col.num(c))
			}
		}
	}
	return append(dst[:start], withChecksum(dst[start:])...)
}

func withChecksum(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, checksum))
}

// checked is what withChecksum was given, if the checksum is right.
func checked(b []byte) ([]byte, bool) {
	if len(b) < 4 {
		return nil, false
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	return body, crc32.Checksum(body, checksum) == sum
}

// readBatch decodes what appendBatch made. Any bytes may come.
func readBatch(b []byte) ([]*call.Call, error) {
	body, ok := checked(b)
	if !ok || len(body) < 2 {
		return nil, fmt.Errorf("%w: its checksum is wrong", errBatch)
	}
	if body[0] != batchVersion {
		return nil, fmt.Errorf("%w: version %d is not known", errBatch, body[0])
	}
	r := reader{b: body[1:]}
	n := r.uint()
	if n > uint64(len(body)) { // a Call takes more than a byte
		return nil, errBatch
	}
	calls := make([]*call.Call, 0, n)
	for range n {
		c := new(call.Call)
		for i := range columns {
			col := &columns[i]
			switch {
			case col.derived():
			case col.decode != nil:
				col.decode(c, &r)
			case col.setStr != nil:
				if err := col.setStr(c, r.string()); err != nil {
					return nil, fmt.Errorf("%w: %s: %w", errBatch, col.name, err)
				}
			case col.null != nil && r.byte() == 0:
				col.setNil(c)
			default:
				col.setNum(c, r.int())
			}
		}
		if r.bad {
			return nil, errBatch
		}
		calls = append(calls, c)
	}
	if len(r.b) != 0 {
		return nil, errBatch
	}
	return calls, nil
}

// A reader reads a batch; bad says that it ran out.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	r.skip(n)
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	r.skip(n)
	return v
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) string() string {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *reader) skip(n int) {
	if n <= 0 {
		r.bad, r.b = true, nil
		return
	}
	r.b = r.b[n:]
}
