package config

import (
	"fmt"
	"log/slog"
	"math"
	"math/big"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A scalar reads itself from the text of a YAML scalar or a variable.
type scalar interface{ parse(text string) error }

// Day is 24 hours.
const Day = Duration(24 * time.Hour)

// A Duration is a time.Duration written like 5s, 10m, 1h30m or 90d.
type Duration time.Duration

var durationPart = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)`)

var units = map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}

func (d *Duration) parse(text string) error {
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return fmt.Errorf("%q has no unit: write %ss, %sm, %sh or %sd", text, text, text, text, text)
	}
	var sum float64
	rest := text
	for {
		m := durationPart.FindStringSubmatch(rest)
		if m == nil {
			break
		}
		n, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			break
		}
		sum += n * float64(units[m[2]])
		rest = rest[len(m[0]):]
	}
	if rest != "" || text == "" {
		return fmt.Errorf("%s is not a duration like 5s, 10m, 1h30m or 90d", clip(text))
	}
	if sum <= 0 {
		return fmt.Errorf("must be more than 0")
	}
	if sum > float64(100*365*Day) {
		return fmt.Errorf("%s is more than 100 years", clip(text))
	}
	*d = Duration(sum)
	return nil
}

// String writes whole days as days, anything else as time.Duration does
// without its zero parts.
func (d Duration) String() string {
	if d >= Day && d%Day == 0 {
		return strconv.FormatInt(int64(d/Day), 10) + "d"
	}
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// A Size is a number of bytes written like 20GiB, 500MB or 4096.
type Size int64

var sizePattern = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)$`)

var sizeUnits = map[string]float64{"": 1, "b": 1, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9, "t": 1e12, "tb": 1e12,
	"ki": 1 << 10, "kib": 1 << 10, "mi": 1 << 20, "mib": 1 << 20, "gi": 1 << 30, "gib": 1 << 30, "ti": 1 << 40, "tib": 1 << 40}

func (s *Size) parse(text string) error {
	m := sizePattern.FindStringSubmatch(text)
	if m == nil {
		return fmt.Errorf("%s is not a size like 20GiB or 500MB", clip(text))
	}
	unit, ok := sizeUnits[strings.ToLower(m[2])]
	n, err := strconv.ParseFloat(m[1], 64)
	if !ok || err != nil {
		return fmt.Errorf("%s is not a size like 20GiB or 500MB", clip(text))
	}
	if n *= unit; n < 1 || n >= 1<<62 {
		return fmt.Errorf("%s is out of range", clip(text))
	}
	*s = Size(n)
	return nil
}

func (s Size) String() string {
	for _, u := range []struct {
		name  string
		bytes Size
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if s >= u.bytes && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// A Count is a number written like 60, 300k or 1.5M.
type Count int64

var countPattern = regexp.MustCompile(`^([0-9][0-9_]*(?:\.[0-9]+)?)([kKmM]?)$`)

func (c *Count) parse(text string) error {
	m := countPattern.FindStringSubmatch(text)
	if m == nil {
		return fmt.Errorf("%s is not a number like 60, 300k or 2M", clip(text))
	}
	n, err := strconv.ParseFloat(strings.ReplaceAll(m[1], "_", ""), 64)
	switch strings.ToLower(m[2]) {
	case "k":
		n *= 1e3
	case "m":
		n *= 1e6
	}
	if err != nil || n != math.Trunc(n) || n < 1 || n > 1e15 {
		return fmt.Errorf("%s is not a whole number from 1 to 10^15", clip(text))
	}
	*c = Count(n)
	return nil
}

func (c Count) String() string {
	switch {
	case c >= 1e6 && c%1e6 == 0:
		return strconv.FormatInt(int64(c/1e6), 10) + "M"
	case c >= 1e3 && c%1e3 == 0:
		return strconv.FormatInt(int64(c/1e3), 10) + "k"
	}
	return strconv.FormatInt(int64(c), 10)
}

// A Budget is an amount of money in a period of the calendar, $200/month, or in
// all: $200/total.
type Budget struct {
	NanoUSD int64
	Period  string // day, week, month or total
}

// ParseBudget reads a Budget as the file has it.
func ParseBudget(text string) (b Budget, err error) {
	err = b.parse(text)
	return b, err
}

var budgetPattern = regexp.MustCompile(`^\$([0-9]+(?:\.[0-9]{1,9})?) ?/ ?([a-z]+)$`)

var periods = []string{"day", "week", "month", "total"}

func (b *Budget) parse(text string) error {
	m := budgetPattern.FindStringSubmatch(text)
	if m == nil {
		return fmt.Errorf("%s is not an amount of dollars in a period like $200/month", clip(text))
	}
	if p := m[2]; !slices.Contains(periods, p) {
		return fmt.Errorf("%q is not a period: write day, week, month or total%s", p, didYouMean(p, periods))
	}
	r, ok := new(big.Rat).SetString(m[1])
	if !ok {
		return fmt.Errorf("%s is not an amount", clip(m[1]))
	}
	r.Mul(r, big.NewRat(1e9, 1))
	if !r.IsInt() || r.Sign() <= 0 || r.Num().Cmp(big.NewInt(1e18)) > 0 {
		return fmt.Errorf("the amount must be more than $0 and at most $1000000000")
	}
	*b = Budget{r.Num().Int64(), m[2]}
	return nil
}

func (b Budget) String() string {
	if b.NanoUSD == 0 {
		return ""
	}
	s := strconv.FormatInt(b.NanoUSD/1e9, 10)
	if frac := b.NanoUSD % 1e9; frac != 0 {
		s += "." + strings.TrimRight(fmt.Sprintf("%09d", frac), "0")
	}
	return "$" + s + "/" + b.Period
}

// A Zone is a time zone by its IANA name.
type Zone struct{ *time.Location }

func (z *Zone) parse(text string) error {
	loc, err := time.LoadLocation(text)
	if err != nil || text == "" {
		return fmt.Errorf("%s is not a time zone like UTC, Asia/Seoul or Europe/Berlin", clip(text))
	}
	z.Location = loc
	return nil
}

// A Target is a model at a provider.
type Target struct {
	Provider string
	Model    string // as the provider names it; may hold slashes
}

func (t *Target) parse(text string) error {
	p, m, ok := strings.Cut(text, "/")
	if !ok || p == "" || m == "" {
		return fmt.Errorf("%s is not written as provider/model", clip(text))
	}
	*t = Target{p, m}
	return nil
}

func (t Target) String() string { return t.Provider + "/" + t.Model }

// A Secret is a value that is never shown: it prints as where it comes from.
type Secret struct {
	ref   string // as written, if that is env:NAME or file:PATH
	value string
}

// NewSecret is a Secret with the value v.
func NewSecret(v string) Secret { return Secret{value: v} }

// Value is the secret itself; "" if there is none.
func (s Secret) Value() string { return s.value }

// Set reports whether the configuration names a secret.
func (s Secret) Set() bool { return s.ref != "" || s.value != "" }

// String is env:NAME, file:PATH, "(hidden)" or, for none, "".
func (s Secret) String() string {
	if s.ref == "" && s.value != "" {
		return "(hidden)"
	}
	return s.ref
}

// GoString hides the value from %#v.
func (s Secret) GoString() string { return s.String() }

// LogValue hides the value from logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText hides the value from encodings.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s *Secret) parse(text string) error {
	switch {
	case text == "":
		return fmt.Errorf("must not be empty: write env:NAME or file:PATH")
	case text == "env:" || text == "file:":
		return fmt.Errorf("%q names nothing: write env:NAME or file:PATH", text)
	case strings.HasPrefix(text, "env:"), strings.HasPrefix(text, "file:"):
		*s = Secret{ref: text}
	case strings.HasPrefix(text, "$"):
		return fmt.Errorf("variables are not expanded: write env:NAME")
	default:
		*s = Secret{value: text}
	}
	return nil
}

// Loopback reports whether only this machine can reach a listen address.
func Loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// clip quotes text for a message, cut at 60 bytes.
func clip(text string) string {
	if len(text) > 60 {
		text = strings.ToValidUTF8(text[:60], "") + "…"
	}
	return strconv.Quote(text)
}
