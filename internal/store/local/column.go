package local

import (
	"encoding/binary"
	"encoding/json"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/store"
)

// A kind is how a column's values look in memory and in a file.
type kind uint8

const (
	number kind = iota // int64, spread out: delta-encoded
	count              // int64, few values: dictionary-encoded
	small              // int32, few values: dictionary-encoded
	flag               // bool
	money              // int64 or null, delta-encoded
	word               // string that repeats: dictionary-encoded
	text               // string that rarely repeats: compressed
)

// A column is one fact of a Call in the files and in the tail. Its name is
// public: any tool that reads Parquet sees it. Exactly one of num and str is
// set, and the setter beside it unless the column is derived from others.
type column struct {
	name   string
	kind   kind
	tail   bool // questions need it: the tail keeps it in memory
	num    func(*call.Call) int64
	setNum func(*call.Call, int64)
	null   func(*call.Call) bool // of money
	setNil func(*call.Call)      // of money
	str    func(*call.Call) string
	setStr func(*call.Call, string) error
	encode func([]byte, *call.Call) []byte // in the tail, instead of str; nil: str
	decode func(*call.Call, *reader)
}

// noBucket stands for a latency that was not measured.
const noBucket = -1

// columns are all but the tags'. A file of version fileVersion holds exactly
// these, then one a tag.
var columns = []column{
	textOf("id", false, func(c *call.Call) *string { return &c.ID }),
	{name: "started_at", kind: number, tail: true,
		num: func(c *call.Call) int64 { return c.StartedAt.UnixMicro() }, setNum: func(c *call.Call, v int64) { c.StartedAt = time.UnixMicro(v).UTC() }},
	wordOf("origin", func(c *call.Call) *string { return &c.Origin }),
	wordOf("key", func(c *call.Call) *string { return &c.Key }),
	wordOf("team", func(c *call.Call) *string { return &c.Team }),
	wordOf("user", func(c *call.Call) *string { return &c.User }),
	wordOf("session", func(c *call.Call) *string { return &c.Session }),
	wordOf("ingress", func(c *call.Call) *string { return &c.Ingress }),
	wordOf("model_requested", func(c *call.Call) *string { return &c.ModelRequested }),
	wordOf("provider", func(c *call.Call) *string { return &c.Provider }),
	wordOf("model", func(c *call.Call) *string { return &c.Model }),
	wordOf("response_model", func(c *call.Call) *string { return &c.ResponseModel }),
	{name: "stream", kind: flag, tail: true,
		num: func(c *call.Call) int64 {
			if c.Stream {
				return 1
			}
			return 0
		}, setNum: func(c *call.Call, v int64) { c.Stream = v != 0 }},
	wordOf("status", func(c *call.Call) *call.Status { return &c.Status }),
	{name: "http_status", kind: small, tail: true,
		num: func(c *call.Call) int64 { return int64(c.HTTPStatus) }, setNum: func(c *call.Call, v int64) { c.HTTPStatus = int(v) }},
	{name: "code", kind: word, tail: true, str: (*call.Call).Code}, // derived
	wordOf("error_class", func(c *call.Call) *llm.ErrorClass { return &c.Error.Class }),
	wordOf("error_code", func(c *call.Call) *string { return &c.Error.Code }),
	textOf("error_message", true, func(c *call.Call) *string { return &c.Error.Message }),
	attempts(),
	durationOf("latency_us", func(c *call.Call) *time.Duration { return &c.Latency }),
	durationOf("ttft_us", func(c *call.Call) *time.Duration { return &c.TTFT }),
	durationOf("overhead_us", func(c *call.Call) *time.Duration { return &c.Overhead }),
	{name: "latency_bucket", kind: small, tail: true, num: func(c *call.Call) int64 { return int64(call.Bucket(c.Latency)) }}, // derived
	{name: "ttft_bucket", kind: small, tail: true, num: func(c *call.Call) int64 { // derived
		if c.TTFT <= 0 {
			return noBucket
		}
		return int64(call.Bucket(c.TTFT))
	}},
	wordOf("finish_reason", func(c *call.Call) *llm.FinishReason { return &c.FinishReason }),
	wordOf("native_finish_reason", func(c *call.Call) *string { return &c.NativeFinishReason }),
	textOf("response_id", true, func(c *call.Call) *string { return &c.ResponseID }),
	wordOf("usage_source", func(c *call.Call) *llm.UsageSource { return &c.Usage.Source }),
	countOf("input_tokens", func(c *call.Call) *int64 { return &c.Usage.Input }),
	countOf("output_tokens", func(c *call.Call) *int64 { return &c.Usage.Output }),
	countOf("cache_read_tokens", func(c *call.Call) *int64 { return &c.Usage.CacheRead }),
	countOf("cache_write_5m_tokens", func(c *call.Call) *int64 { return &c.Usage.CacheWrite5m }),
	countOf("cache_write_1h_tokens", func(c *call.Call) *int64 { return &c.Usage.CacheWrite1h }),
	countOf("reasoning_tokens", func(c *call.Call) *int64 { return &c.Usage.Reasoning }),
	countOf("audio_input_tokens", func(c *call.Call) *int64 { return &c.Usage.AudioInput }),
	countOf("audio_output_tokens", func(c *call.Call) *int64 { return &c.Usage.AudioOutput }),
	jsonOf("server_tool_calls", func(c *call.Call) *map[string]int64 { return &c.Usage.ServerToolCalls }, func(v map[string]int64) bool { return len(v) == 0 }),
	wordOf("tier", func(c *call.Call) *string { return &c.Usage.Tier }),
	{name: "reported_nano_usd", kind: money,
		null: func(c *call.Call) bool { return c.Usage.Reported == nil }, setNil: func(c *call.Call) { c.Usage.Reported = nil },
		num: func(c *call.Call) int64 { return int64(*c.Usage.Reported) },
		setNum: func(c *call.Call, v int64) {
			n := llm.Nano(v)
			c.Usage.Reported = &n
		}},
	jsonOf("other_models", func(c *call.Call) *[]llm.ModelUsage { return &c.Usage.Others }, func(v []llm.ModelUsage) bool { return len(v) == 0 }),
	textOf("raw_usage", false, func(c *call.Call) *json.RawMessage { return &c.Usage.Raw }),
	{name: "cost_nano_usd", kind: money, tail: true,
		null: func(c *call.Call) bool { return c.Unpriced }, setNil: func(c *call.Call) { c.Unpriced = true },
		num: func(c *call.Call) int64 { return int64(c.Cost) }, setNum: func(c *call.Call, v int64) { c.Cost = llm.Nano(v) }},
	wordOf("price_row", func(c *call.Call) *string { return &c.PriceRow }),
	jsonOf("quality", func(c *call.Call) *map[string]string { return &c.Quality }, func(v map[string]string) bool { return len(v) == 0 }),
	jsonOf(moreTags, func(c *call.Call) *map[string]string { return &c.Tags }, func(v map[string]string) bool { return len(v) == 0 }),
}

// moreTags is the column of the tags that have none of their own, as one JSON
// object: in the tail's encoding all of them, in a file those past maxTagColumns.
const moreTags = "more_tags"

var columnByName = func() map[string]*column {
	m := map[string]*column{}
	for i := range columns {
		m[columns[i].name] = &columns[i]
	}
	return m
}()

// derived reports whether a column is computed from others when a Call is read.
func (c *column) derived() bool { return c.setNum == nil && c.setStr == nil }

func wordOf[S ~string](name string, field func(*call.Call) *S) column {
	c := textOf(name, true, field)
	c.kind = word
	return c
}

func textOf[S ~string | ~[]byte](name string, tail bool, field func(*call.Call) *S) column {
	return column{name: name, kind: text, tail: tail,
		str: func(c *call.Call) string { return string(*field(c)) },
		setStr: func(c *call.Call, s string) error {
			if s != "" {
				*field(c) = S(s)
			}
			return nil
		}}
}

func countOf(name string, field func(*call.Call) *int64) column {
	return column{name: name, kind: count, tail: true,
		num: func(c *call.Call) int64 { return *field(c) }, setNum: func(c *call.Call, v int64) { *field(c) = v }}
}

func durationOf(name string, field func(*call.Call) *time.Duration) column {
	return column{name: name, kind: number, tail: true,
		num:    func(c *call.Call) int64 { return field(c).Microseconds() },
		setNum: func(c *call.Call, v int64) { *field(c) = time.Duration(v) * time.Microsecond }}
}

// jsonOf is a structured value as its JSON text, "" if it is empty.
func jsonOf[V any](name string, field func(*call.Call) *V, empty func(V) bool) column {
	return column{name: name, kind: text,
		str: func(c *call.Call) string {
			v := *field(c)
			if empty(v) {
				return ""
			}
			b, _ := json.Marshal(v) // fails for no value of these types
			return string(b)
		},
		setStr: func(c *call.Call, s string) error {
			if s == "" {
				return nil
			}
			return json.Unmarshal([]byte(s), field(c))
		}}
}

// attempts is the column that every Call fills: its JSON is made by hand, and
// the tail's encoding has a form of its own.
func attempts() column {
	c := jsonOf("attempts", func(c *call.Call) *[]call.Attempt { return &c.Attempts }, func(v []call.Attempt) bool { return len(v) == 0 })
	c.str = func(c *call.Call) string {
		if len(c.Attempts) == 0 {
			return ""
		}
		b := []byte{'['}
		for i := range c.Attempts {
			if i > 0 {
				b = append(b, ',')
			}
			b = c.Attempts[i].AppendJSON(b)
		}
		return string(append(b, ']'))
	}
	c.encode = func(dst []byte, c *call.Call) []byte {
		dst = binary.AppendUvarint(dst, uint64(len(c.Attempts)))
		for i := range c.Attempts {
			a := &c.Attempts[i]
			for _, s := range [...]string{a.Provider, a.ProviderKey, a.Model, string(a.ErrorClass)} {
				dst = append(binary.AppendUvarint(dst, uint64(len(s))), s...)
			}
			unpriced := int64(0)
			if a.Unpriced {
				unpriced = 1
			}
			for _, n := range [...]int64{int64(a.HTTPStatus), a.Latency.Microseconds(), int64(a.Cost), unpriced} {
				dst = binary.AppendVarint(dst, n)
			}
		}
		return dst
	}
	c.decode = func(c *call.Call, r *reader) {
		n := r.uint()
		for range n {
			if r.bad {
				return
			}
			c.Attempts = append(c.Attempts, call.Attempt{Provider: r.string(), ProviderKey: r.string(), Model: r.string(), ErrorClass: llm.ErrorClass(r.string()),
				HTTPStatus: int(r.int()), Latency: time.Duration(r.int()) * time.Microsecond, Cost: llm.Nano(r.int()), Unpriced: r.int() != 0})
		}
	}
	return c
}

// maxTagColumns is how many tags of a file have a column of their own: the most
// frequent ones.
const maxTagColumns = 64

// tagColumn is the name of a tag's column, and of its dimension.
func tagColumn(tag string) string { return store.TagPrefix + tag }

// node is the Parquet type of a column.
func (k kind) node() parquet.Node {
	switch k {
	case number:
		return parquet.Encoded(parquet.Int(64), &parquet.DeltaBinaryPacked)
	case count:
		return parquet.Encoded(parquet.Int(64), &parquet.RLEDictionary)
	case small:
		return parquet.Encoded(parquet.Int(32), &parquet.RLEDictionary)
	case flag:
		return parquet.Leaf(parquet.BooleanType)
	case money:
		return parquet.Optional(parquet.Encoded(parquet.Int(64), &parquet.DeltaBinaryPacked))
	case word:
		return parquet.Encoded(parquet.String(), &parquet.RLEDictionary)
	}
	return parquet.Compressed(parquet.String(), &parquet.Zstd)
}

// A vec is one column of a block.
type vec struct {
	i64  []int64  // number, count, money
	i32  []int32  // small, flag
	null []bool   // of money: true where there is none; nil if there is everywhere
	idx  []int32  // word, text: indexes into dict, absent for a tag that a Call has not
	dict []string // distinct for a word, not always for a text
}

const absent = -1

// words is a column of numbers as dictionary words: http_status and stream are
// dimensions, too.
func (v vec) words(k kind) vec {
	at := map[int32]int32{}
	w := vec{idx: make([]int32, len(v.i32))}
	for i, x := range v.i32 {
		j, ok := at[x]
		if !ok {
			j = int32(len(w.dict))
			at[x] = j
			s := strconv.Itoa(int(x))
			if k == flag {
				s = strconv.FormatBool(x != 0)
			}
			w.dict = append(w.dict, s)
		}
		w.idx[i] = j
	}
	return w
}
