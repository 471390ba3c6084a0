package redact

import (
	"strconv"
	"strings"
	"time"
)

// patterns are what looks like personal data or a secret in s. It looks at each
// byte a bounded number of times.
func patterns(s string) []match {
	var list []match
	edge := 0    // the end of an escape: what stands before it is no part of a word
	noToken := 0 // before it begins no JSON Web Token
	for i := 0; i < len(s); {
		if n := escape(s[i:]); n > 0 {
			i += n
			edge = i
			continue
		}
		end, with := 0, ""
		switch c := s[i]; {
		case c == '@':
			var start int
			if start, end = email(s, i); end > 0 {
				list = append(list, match{start, end, "[email]"})
			}
		case i > edge && word(s[i-1]) && c != '-':
			// within a word begins nothing else
			if digit(c) && digit(s[i-1]) {
				end = afterDigits(s, i)
			}
		case digit(c) || c == '+' || c == '(':
			if end, with = digits(s, i); with == "" {
				end = afterDigits(s, i)
			}
		case c == '-':
			end, with = privateKey(s, i), "[key]"
		case letter(c):
			if begins[c] {
				if i >= noToken {
					end, noToken = token(s, i)
					with = "[jwt]"
				}
				if end == 0 {
					end, with = apiKey(s, i)
				}
			}
			for end = max(end, i); with == "" && end < len(s) && word(s[end]); end++ {
			}
		}
		switch {
		case end <= i:
			i++
		case with == "" || s[i] == '@':
			i = end
		default:
			list = append(list, match{i, end, with})
			i = end
		}
	}
	return list
}

// begins are the bytes that a token or a key may begin with.
var begins = func() (b [256]bool) {
	b['e'] = true
	for _, p := range keyPrefixes {
		b[p[0]] = true
	}
	return
}()

func digit(c byte) bool  { return c >= '0' && c <= '9' }
func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func word(c byte) bool   { return letter(c) || digit(c) || c == '_' }

func afterDigits(s string, i int) int {
	for i < len(s) && digit(s[i]) {
		i++
	}
	return i
}

// escape is the length of what s begins with, if that is one of JSON's escapes
// that would look like a part of a word: a text may hold JSON, and that JSON texts.
func escape(s string) int {
	if len(s) < 2 || s[0] != '\\' {
		return 0
	}
	switch s[1] {
	case 'n', 'r', 't', 'b', 'f':
		return 2
	case 'u':
		if len(s) >= 6 {
			if _, err := strconv.ParseUint(s[2:6], 16, 16); err == nil {
				return 6
			}
		}
	}
	return 0
}

// local is where the local part of an address begins that ends at i.
func local(s string, i int) int {
	start := i
	for start > 0 && i-start < 64 {
		c := s[start-1]
		if start >= 2 && escape(s[start-2:start]) > 0 {
			break
		}
		if start >= 6 && escape(s[start-6:start]) == 6 {
			if strings.HasPrefix(s[start-4:], "00") && s[start-2] < '8' {
				break // of ASCII: what is part of an address needs none
			}
			start -= 6
			continue
		}
		if !word(c) && c < 0x80 && strings.IndexByte(".%+-'", c) < 0 {
			break
		}
		start--
	}
	return start
}

// email is the address around the @ at i; end is 0 if there is none.
func email(s string, i int) (start, end int) {
	start = local(s, i)
	start += len(s[start:i]) - len(strings.TrimLeft(s[start:i], ".'-"))
	if start == i {
		return 0, 0
	}
	label, dot := 0, 0 // where the last label begins, and whether there was one before
	end = i + 1
	label = end
	for end < len(s) && end-i < 255 {
		c := s[end]
		if c == '.' && end > label {
			dot, label = end, end+1
		} else if !letter(c) && !digit(c) && c != '-' && c < 0x80 {
			break
		}
		end++
	}
	last := s[label:end]
	if last == "" && dot > 0 { // the end of a sentence
		end = dot
		at := strings.LastIndexByte(s[i+1:end], '.')
		if at < 0 {
			return 0, 0
		}
		last = s[i+1+at+1 : end]
	} else if dot == 0 {
		return 0, 0
	}
	if len(last) < 2 || digit(last[0]) {
		return 0, 0
	}
	return start, end
}

// digits are the numbers that mean somebody: with is "" if those at i do not.
func digits(s string, i int) (end int, with string) {
	if end = residentNumber(s, i); end > 0 {
		return end, "[resident-number]"
	}
	if end = card(s, i); end > 0 {
		return end, "[card]"
	}
	if end = phone(s, i); end > 0 {
		return end, "[phone]"
	}
	return 0, ""
}

// ends reports whether no digit or letter goes on at i.
func ends(s string, i int) bool { return i == len(s) || !word(s[i]) }

// residentNumber is a Korean resident or foreigner registration number: a date
// of birth, a digit of sex and century, and six more. The last is a check digit
// in all that were given before October 2020; since then the six are random.
//
// Source: Act on Resident Registration, enforcement rules, article 2; the
// Ministry of the Interior and Safety on the change of October 2020.
func residentNumber(s string, i int) int {
	var n [13]int
	at := i
	for k := range n {
		if k == 6 && at < len(s) && (s[at] == '-' || s[at] == ' ') {
			at++
		}
		if at == len(s) || !digit(s[at]) {
			return 0
		}
		n[k] = int(s[at] - '0')
		at++
	}
	if !ends(s, at) {
		return 0
	}
	century := [...]int{1800, 1900, 1900, 2000, 2000, 1900, 1900, 2000, 2000, 1800}[n[6]]
	born := time.Date(century+n[0]*10+n[1], time.Month(n[2]*10+n[3]), n[4]*10+n[5], 0, 0, 0, 0, time.UTC)
	if int(born.Month()) != n[2]*10+n[3] || born.Day() != n[4]*10+n[5] {
		return 0
	}
	sum := 0
	for k, w := range [...]int{2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5} {
		sum += w * n[k]
	}
	foreigner := n[6] >= 5 && n[6] <= 8
	if n[12] == (11-sum%11)%10 || foreigner && n[12] == (13-sum%11)%10 || !born.Before(time.Date(2020, 10, 1, 0, 0, 0, 0, time.UTC)) {
		return at
	}
	return 0
}

// card is a payment card's number: 13 to 19 digits with single spaces or hyphens
// between, that begin as an issuer's do and pass the Luhn check (ISO/IEC 7812).
func card(s string, i int) int {
	var n []byte
	end := 0
	for at := i; at < len(s) && len(n) < 19; {
		if !digit(s[at]) {
			if (s[at] != ' ' && s[at] != '-') || at == i || !digit(s[at-1]) {
				break
			}
			at++
			continue
		}
		n = append(n, s[at]-'0')
		at++
		if len(n) >= 13 && ends(s, at) && issuer(n) && luhn(n) {
			end = at
		}
	}
	return end
}

// issuer reports whether n begins as the numbers of the large networks do, and
// has one of their lengths.
func issuer(n []byte) bool {
	two, four := int(n[0])*10+int(n[1]), 0
	for _, d := range n[:4] {
		four = four*10 + int(d)
	}
	switch {
	case n[0] == 4: // Visa
		return len(n) == 13 || len(n) == 16 || len(n) == 19
	case two == 34 || two == 37: // American Express
		return len(n) == 15
	case two == 36 || two == 38 || two == 39 || four/10 >= 300 && four/10 <= 305: // Diners Club
		return len(n) >= 14
	case two >= 51 && two <= 55, four >= 2221 && four <= 2720: // Mastercard
		return len(n) == 16
	case two == 35, two == 62, two == 65, four == 6011, four/10 >= 644 && four/10 <= 649, two == 94: // JCB, UnionPay, Discover, Korean domestic
		return len(n) >= 16
	}
	return false
}

func luhn(n []byte) bool {
	sum := 0
	for i := range n {
		d := int(n[len(n)-1-i])
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// phone is a phone number: an international one after a plus, a Korean one, or
// a North American one with separators. Ten digits alone are a time or an id.
func phone(s string, i int) int {
	at, plus := i, s[i] == '+'
	if plus {
		at++
	}
	if at == len(s) || !digit(s[at]) && s[at] != '(' {
		return 0
	}
	var n []byte
	var groups []int // their lengths
	end, open := 0, false
	for at < len(s) && len(n) < 15 {
		c := s[at]
		switch {
		case digit(c):
			g := afterDigits(s, at)
			if g-at > 15-len(n) {
				return end
			}
			n, groups = append(n, s[at:g]...), append(groups, g-at)
			at = g
			if plausible(n, groups, plus) && ends(s, at) {
				end = at
			}
			continue
		case c == '(' && !open && len(groups) < 2:
			open = true
		case c == ')' && open:
			open = false
			if at+1 < len(s) && (s[at+1] == ' ' || s[at+1] == '-') {
				at++
			}
		case (c == ' ' || c == '-' || c == '.') && at > i && (digit(s[at-1]) || s[at-1] == ')'):
			if at+1 < len(s) && s[at+1] == '(' && !open {
				open = true
				at++
			}
		default:
			return end
		}
		at++
	}
	return end
}

func plausible(n []byte, groups []int, plus bool) bool {
	k := len(groups)
	switch {
	case len(n) < 8:
		return false
	case plus:
		return n[0] != '0'
	case n[0] == '0': // Korean: mobile 01X, areas 02 to 06X, 070, 080
		mobile := n[1] == '1' && strings.IndexByte("016789", n[2]) >= 0
		switch {
		case mobile && k == 1:
			return len(n) == 11 && n[2] == '0'
		case mobile:
			return k == 3 && groups[0] == 3 && (groups[1] == 3 || groups[1] == 4) && groups[2] == 4
		case k != 3 || groups[2] != 4 || groups[1] != 3 && groups[1] != 4:
			return false
		case groups[0] == 2:
			return n[1] == '2'
		}
		return groups[0] == 3 && strings.IndexByte("345678", n[1]) >= 0
	case k == 4 && groups[0] == 1 && n[0] == '1':
		return groups[1] == 3 && groups[2] == 3 && groups[3] == 4 && n[1] >= '2'
	}
	return k == 3 && groups[0] == 3 && groups[1] == 3 && groups[2] == 4 && n[0] >= '2' && n[3] >= '2'
}

// token is a JSON Web Token: three parts of base64url, the first of which is an
// object (RFC 7519). end is 0 if there is none, and then none begins before none.
func token(s string, i int) (end, none int) {
	if !strings.HasPrefix(s[i:], "eyJ") {
		return 0, 0
	}
	first := base64URL(s, i)
	if first-i < 10 || first == len(s) || s[first] != '.' {
		return 0, first
	}
	second := base64URL(s, first+1)
	if second-first < 10 {
		return 0, first
	}
	if second < len(s) && s[second] == '.' {
		return base64URL(s, second+1), 0
	}
	return second, 0 // cut, or without a signature
}

func base64URL(s string, i int) int {
	for i < len(s) && (word(s[i]) || s[i] == '-') {
		i++
	}
	return i
}

// keyPrefixes begin the API keys of well-known services, each as its own
// documentation shows them; sg- are this gateway's.
var keyPrefixes = [...]string{"sk-", "sg-", "sk_live_", "sk_test_", "rk_live_", "rk_test_", "gsk_", "hf_", "xai-", "pplx-", "AIza", "AKIA", "ASIA",
	"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xoxb-", "xoxp-", "xoxa-", "xoxr-", "xoxs-", "npm_", "SG."}

// apiKey is a key at i; with is "" if what has the look of one, up to end, is none.
func apiKey(s string, i int) (end int, with string) {
	for _, p := range keyPrefixes {
		if s[i] != p[0] || !strings.HasPrefix(s[i:], p) {
			continue
		}
		figure, capital := false, false
		for end = i + len(p); end < len(s) && (word(s[end]) || s[end] == '-' || s[end] == '.' && p == "SG."); end++ {
			figure = figure || digit(s[end])
			capital = capital || s[end] >= 'A' && s[end] <= 'Z'
		}
		if n := end - i - len(p); n >= 16 && (figure || capital) {
			return end, "[key]"
		}
		return end, ""
	}
	return 0, ""
}

// privateKey is a key in PEM, to its end or that of the text.
func privateKey(s string, i int) int {
	const begin, last = "-----BEGIN ", "-----END "
	if !strings.HasPrefix(s[i:], begin) {
		return 0
	}
	head := s[i+len(begin):]
	if len(head) > 64 {
		head = head[:64]
	}
	if k := strings.Index(head, "-----"); k < 0 || !strings.HasSuffix(head[:k], "PRIVATE KEY") {
		return 0
	}
	end := strings.Index(s[i:], last)
	if end < 0 {
		return len(s)
	}
	end += i + len(last)
	if k := strings.Index(s[end:], "-----"); k >= 0 {
		return end + k + 5
	}
	return len(s)
}
