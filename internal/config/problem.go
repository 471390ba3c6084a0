package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Problem is one mistake, and where.
type Problem struct {
	File    string `json:"file"`   // or "environment"
	Line    int    `json:"line"`   // from 1; 0 in the environment
	Column  int    `json:"column"` // from 1, in characters; 0 in the environment
	Path    string `json:"path"`   // the key, e.g. providers.openai.base_url, or the variable
	Message string `json:"message"`
}

// String formats p as compilers do, so that editors can jump to it.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	return b.String() + p.Message
}

// Problems are all mistakes of a configuration, in the order of the file.
type Problems []Problem

// Error lists all of them, one a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

// maxProblems bounds what is told about a file that is wrong throughout.
const maxProblems = 100

// environment is the File of a Problem that is in no file.
const environment = "environment"

// A place is where a value was written.
type place struct {
	line, column int
	variable     string // the environment variable, if it came from one
}

// A loader collects what is wrong while a Config is made.
type loader struct {
	file     string
	o        Options
	env      map[string]string
	at       map[string]place // path → its value; an absent path is where its section is
	keyAt    map[string]place // path → its key
	named    map[string]bool  // variables that the configuration names
	unknown  []string         // variables with our prefix that set no key
	errors   Problems
	warnings []Problem
}

func newLoader(file string, o Options) *loader {
	l := &loader{file: file, o: o, env: map[string]string{}, at: map[string]place{}, keyAt: map[string]place{}, named: map[string]bool{}}
	for _, line := range o.Environ {
		if name, value, ok := strings.Cut(line, "="); ok {
			l.env[name] = value
		}
	}
	return l
}

// place finds where path was written, or the nearest section around it.
func (l *loader) place(path string) place {
	for p := path; p != ""; {
		if at, ok := l.at[p]; ok {
			return at
		}
		if at, ok := l.keyAt[p]; ok {
			return at
		}
		i := strings.LastIndexAny(p, ".[")
		if i < 0 {
			break
		}
		p = p[:i]
	}
	if l.file == "" {
		return place{variable: " "}
	}
	return place{line: 1, column: 1}
}

func (l *loader) problem(at place, path, format string, args ...any) Problem {
	p := Problem{File: l.file, Line: at.line, Column: at.column, Path: path, Message: fmt.Sprintf(format, args...)}
	if at.variable != "" {
		p.File, p.Line, p.Column = environment, 0, 0
		if v := strings.TrimSpace(at.variable); v != "" {
			p.Path = v
		}
	}
	return p
}

func (l *loader) failAt(at place, path, format string, args ...any) {
	if len(l.errors) < maxProblems {
		l.errors = append(l.errors, l.problem(at, path, format, args...))
	}
}

func (l *loader) fail(path, format string, args ...any) {
	l.failAt(l.place(path), path, format, args...)
}

func (l *loader) warn(path, format string, args ...any) {
	if len(l.warnings) < maxProblems {
		l.warnings = append(l.warnings, l.problem(l.place(path), path, format, args...))
	}
}

func (l *loader) sort() {
	by := func(a, b Problem) int { return cmp.Or(a.Line-b.Line, a.Column-b.Column) }
	slices.SortStableFunc(l.errors, by)
	slices.SortStableFunc(l.warnings, by)
}

// didYouMean names the word nearest to s, as the end of a message; "" if none
// is near.
func didYouMean(s string, words []string) string {
	best, bestWord := len(s)/3+2, ""
	if len(s) < 4 {
		best = 2
	}
	for _, w := range words {
		if d := distance(strings.ToLower(s), strings.ToLower(w)); d < best {
			best, bestWord = d, w
		}
	}
	if bestWord == "" || len(s) > 100 {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", bestWord)
}

// distance is how many insertions, deletions, replacements and swaps of
// neighbours make b of a.
func distance(a, b string) int {
	if len(a) > 100 || len(b) > 100 {
		return 100
	}
	var before []int
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(last[j]+1, row[j-1]+1, replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// quoted lists words for a message: "a", "b" or "c".
func quoted(words []string) string {
	q := make([]string, len(words))
	for i, w := range words {
		q[i] = fmt.Sprintf("%q", w)
	}
	if len(q) < 2 {
		return strings.Join(q, "")
	}
	return strings.Join(q[:len(q)-1], ", ") + " or " + q[len(q)-1]
}
