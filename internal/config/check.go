package config

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// check says what is wrong with c beyond its form, and completes it.
func (l *loader) check(c *Config) {
	l.checkEnums(reflect.ValueOf(c).Elem(), "")
	l.checkListen(c)
	l.checkEngines(c)
	l.checkProviders(c)
	l.checkAliases(c)
	l.checkAdminKey(c)
	l.checkKeys(c)
	l.checkRules(c)
	l.checkRetry(c)
	l.notYet(c)
	l.unknownVariables()
}

// checkEnums refuses values that are none of those that a field's tag lists.
func (l *loader) checkEnums(v reflect.Value, path string) {
	for _, f := range fieldsOf(v.Type()) {
		fv, sub := v.Field(f.index), join(path, f.name)
		switch {
		case len(f.enum) > 0:
			if s := fv.String(); s != "" && !slices.Contains(f.enum, s) {
				l.fail(sub, "%s is not %s%s", clip(s), quoted(f.enum), didYouMean(s, f.enum))
			}
		case isNamed(f.typ):
			for i := range fv.Len() {
				l.checkEnums(fv.Index(i), join(sub, fv.Index(i).Field(0).String()))
			}
		case isSection(f.typ):
			l.checkEnums(fv, sub)
		}
	}
}

func (l *loader) checkListen(c *Config) {
	if c.Debug != "" && !Loopback(c.Debug) {
		l.fail("debug", "%s is not a loopback address like 127.0.0.1:6060: profiles show what is in memory", clip(c.Debug))
	}
	_, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		l.fail("listen", "%s is not an address like 127.0.0.1:8080", clip(c.Listen))
		return
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		l.fail("listen", "%s is not a port from 0 to 65535", clip(port))
	} else if _ = n; !Loopback(c.Listen) {
		l.warn("listen", "%s can be reached from other machines, without encryption: put a TLS proxy before it", c.Listen)
	}
}

// checkEngines refuses what names an engine that this version does not have.
func (l *loader) checkEngines(c *Config) {
	if c.Data == "" {
		l.fail("data", "must name a folder")
	}
	engine := func(path string, value *string, want string) {
		scheme, folder, ok := strings.Cut(*value, ":")
		switch {
		case *value == "" && want != "":
			*value = "file:" + c.Data
		case *value == "":
		case want != "" && ok && scheme == "file" && strings.Trim(folder, "/") != "":
		case ok && slices.Contains([]string{"clickhouse", "postgres", "postgresql", "redis", "rediss", "valkey"}, scheme):
			l.fail(path, "%s:// is not built into this version%s", scheme, instead(want))
		default:
			l.fail(path, "%s is no engine of this version%s", clip(*value), instead(want))
		}
	}
	engine("store", &c.Store, "file:./data")
	engine("state", &c.State, "file:./data")
	engine("limits", &c.Limits, "")
}

func instead(want string) string {
	if want == "" {
		return ": leave the key out"
	}
	return ": write " + want
}

func (l *loader) knownNames() []string {
	names := make([]string, len(l.o.Known))
	for i, k := range l.o.Known {
		names[i] = k.Name
	}
	return names
}

func (l *loader) checkProviders(c *Config) {
	if len(c.Providers) == 0 {
		l.warn("providers", "no provider is configured: set OPENAI_API_KEY or another provider's variable, or write a file with `sheepgate init`")
	}
	for i := range c.Providers {
		l.checkProvider(&c.Providers[i])
	}
}

func (l *loader) checkProvider(p *Provider) {
	path := join("providers", p.Name)
	if strings.Contains(p.Name, "/") {
		l.fail(path, "the name of a provider has no slash")
	}
	names := l.knownNames()
	kind := p.Type
	if kind == "" {
		kind = p.Name
	}
	i := slices.Index(names, kind)
	if i < 0 {
		if p.Type == "" {
			l.failAt(l.keyPlace(path), path, "unknown provider%s: a provider of your own needs a type, e.g. type: openai", didYouMean(p.Name, names))
		} else {
			l.fail(path+".type", "unknown type %s%s: expected %s", clip(p.Type), didYouMean(p.Type, names), quoted(names))
		}
		l.secret(path+".key", &p.Key)
		l.checkURL(path+".base_url", p.BaseURL)
		return
	}
	known := l.o.Known[i]
	p.Type = kind
	own := p.BaseURL != ""
	if own {
		l.checkURL(path+".base_url", p.BaseURL)
	} else if p.BaseURL = known.BaseURL; p.BaseURL == "" {
		l.fail(path, "base_url is missing")
	}
	if len(p.Keys) > 0 {
		l.checkProviderKeys(p, path)
		return
	}
	if p.Key.Set() {
		l.secret(path+".key", &p.Key)
		return
	}
	if known.KeyEnv == "" || own {
		return
	}
	if l.env[known.KeyEnv] == "" && !l.o.Offline {
		l.fail(path, "key is missing, and %s is not set", known.KeyEnv)
		return
	}
	p.Key = Secret{ref: "env:" + known.KeyEnv}
	l.secret(path+".key", &p.Key)
}

// checkProviderKeys looks up the keys of a provider that has several.
func (l *loader) checkProviderKeys(p *Provider, path string) {
	if p.Key.Set() {
		l.fail(path, "has key and keys: write all of them as keys")
	}
	for i := range p.Keys {
		k := &p.Keys[i]
		sub := join(path+".keys", k.Name)
		if !k.Key.Set() {
			l.fail(sub, "key is missing: write key: env:NAME")
			continue
		}
		l.secret(sub+".key", &k.Key)
		for _, other := range p.Keys[:i] {
			if v := k.Key.Value(); v != "" && v == other.Key.Value() {
				l.fail(sub+".key", "is the same as %s", join(path+".keys", other.Name))
			}
		}
	}
}

// checkRules refuses rules that bind nobody, or twice the same.
func (l *loader) checkRules(c *Config) {
	for _, k := range c.Keys {
		l.checkBudgets(join("keys", k.Name), k.Budget)
	}
	for _, t := range c.Teams {
		l.checkBudgets(join("teams", t.Name), t.Budget)
		if !slices.ContainsFunc(c.Keys, func(k Key) bool { return k.Team == t.Name }) {
			l.warn(join("teams", t.Name), "no key of this file is of the team")
		}
	}
	type match struct{ key, team, model, provider string }
	seen := map[match]string{}
	for _, r := range c.Rules {
		path := join("rules", r.Name)
		l.checkBudgets(path, r.Budget)
		if r.Limits == (Limits{}) && len(r.Budget) == 0 {
			l.fail(path, "has neither limits nor a budget")
		}
		if r.Provider != "" && !slices.Contains(providerNames(c), r.Provider) {
			l.fail(path+".provider", "no provider %s is configured%s", clip(r.Provider), didYouMean(r.Provider, providerNames(c)))
		}
		alias := slices.ContainsFunc(c.Models, func(a Alias) bool { return a.Name == r.Model })
		if alias && r.Provider != "" {
			l.fail(path, "the alias %s has models at any provider: name the model", clip(r.Model))
		}
		m := match{r.Key, r.Team, r.Model, r.Provider}
		other, twice := seen[m]
		seen[m] = path
		switch m {
		case match{key: r.Key}, match{team: r.Team}, match{provider: r.Provider}:
			if m != (match{}) {
				l.fail(path, "is about one name alone: write its limits where the name is")
			}
		case match{model: r.Model}:
			if alias {
				l.fail(path, "is about one alias alone: write its limits where the alias is")
			}
		}
		if twice {
			l.fail(path, "is about the same calls as %s: write one", other)
		}
	}
}

func (l *loader) checkBudgets(path string, list []Budget) {
	for i, b := range list {
		if slices.ContainsFunc(list[:i], func(o Budget) bool { return o.Period == b.Period && b.Period != "" }) {
			l.fail(path+".budget", "has two amounts for a %s", b.Period)
		}
	}
}

// keyPlace is where the key at path is written, for what is wrong with a name.
func (l *loader) keyPlace(path string) place {
	if at, ok := l.keyAt[path]; ok {
		return at
	}
	return l.place(path)
}

func (l *loader) checkURL(path, raw string) {
	if raw == "" {
		return
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https"):
		l.fail(path, "%s is not a URL like https://api.example.com/v1", clip(hideUser(raw)))
	case u.User != nil:
		l.fail(path, "holds a user or a password: write it as key")
	case u.RawQuery != "" || u.Fragment != "":
		l.fail(path, "must not have a query or a fragment")
	}
}

// hideUser cuts what may be a password out of a URL that cannot be parsed.
func hideUser(raw string) string {
	if i := strings.LastIndexByte(raw, '@'); i >= 0 {
		return "…" + raw[i:]
	}
	return raw
}

func providerNames(c *Config) []string {
	names := make([]string, len(c.Providers))
	for i := range c.Providers {
		names[i] = c.Providers[i].Name
	}
	return names
}

func (l *loader) checkAliases(c *Config) {
	providers := providerNames(c)
	for i := range c.Models {
		a := &c.Models[i]
		path := join("models", a.Name)
		if len(a.Use) == 0 {
			l.fail(path, "use is missing: name at least one provider/model")
		}
		if a.Strategy == "" {
			a.Strategy = "fallback"
		}
		for j, t := range a.Use {
			sub := path + ".use"
			if _, ok := l.at[sub+"["+strconv.Itoa(j)+"]"]; ok {
				sub += "[" + strconv.Itoa(j) + "]"
			}
			if t == (Target{}) {
				continue // told already
			}
			if !slices.Contains(providers, t.Provider) {
				l.fail(sub, "no provider %s is configured%s", clip(t.Provider), didYouMean(t.Provider, providers))
			}
			if slices.Contains(a.Use[:j], t) {
				l.fail(sub, "%s is there twice", clip(t.String()))
			}
		}
		if len(a.Weights) > 0 && len(a.Weights) != len(a.Use) {
			l.fail(path+".weights", "has %d numbers for %d models", len(a.Weights), len(a.Use))
		}
		for _, w := range a.Weights {
			if !(w >= 0 && w <= 1e6) {
				l.fail(path+".weights", "a weight is a number from 0 to 1000000")
			}
		}
		if a.Strategy == "weights" && len(a.Weights) == 0 {
			l.fail(path, "strategy weights needs weights")
		}
		if len(a.Weights) > 0 && !slices.ContainsFunc(a.Weights, func(w float64) bool { return w > 0 }) {
			l.fail(path+".weights", "are all 0: nobody would be asked")
		}
	}
}

// checkAdminKey completes the admin key. A variable that is not set is as good
// as no key: one is made at the first start.
func (l *loader) checkAdminKey(c *Config) {
	if name, ok := strings.CutPrefix(c.AdminKey.ref, "env:"); ok && l.env[name] == "" && !l.o.Offline {
		l.named[name] = true
		l.warn("admin_key", "%s is not set: the generated admin key applies", name)
		c.AdminKey = Secret{}
		return
	}
	l.secret("admin_key", &c.AdminKey)
}

// minKeyBytes is the length below which a key of ours can be guessed.
const minKeyBytes = 16

func (l *loader) checkKeys(c *Config) {
	seen := map[string]string{}
	if v := c.AdminKey.Value(); v != "" {
		seen[v] = "admin_key"
		if len(v) < minKeyBytes {
			l.warn("admin_key", "is shorter than %d characters and can be guessed", minKeyBytes)
		}
	}
	providers := providerNames(c)
	aliases := make([]string, len(c.Models))
	for i := range c.Models {
		aliases[i] = c.Models[i].Name
	}
	for i := range c.Keys {
		k := &c.Keys[i]
		path := join("keys", k.Name)
		if !k.Key.Set() {
			if _, told := l.at[path+".key"]; !told {
				l.fail(path, "key is missing: write key: env:NAME")
			}
			continue
		}
		l.secret(path+".key", &k.Key)
		if v := k.Key.Value(); v != "" {
			if other, twice := seen[v]; twice {
				l.fail(path+".key", "is the same as %s", other)
			}
			seen[v] = path + ".key"
			if len(v) < minKeyBytes {
				l.warn(path+".key", "is shorter than %d characters and can be guessed", minKeyBytes)
			}
		}
		for j, m := range k.Models {
			sub := path + ".models"
			if _, ok := l.at[sub+"["+strconv.Itoa(j)+"]"]; ok {
				sub += "[" + strconv.Itoa(j) + "]"
			}
			if slices.Contains(aliases, m) {
				continue
			}
			if p, _, ok := strings.Cut(m, "/"); ok && !slices.Contains(providers, p) {
				l.fail(sub, "no provider %s is configured%s", clip(p), didYouMean(p, providers))
			} else if hint := didYouMean(m, aliases); !ok && hint != "" {
				l.warn(sub, "no alias %s%s", clip(m), hint)
			}
		}
	}
}

var retryOn = []string{"timeout", "connect", "5xx"}

func (l *loader) checkRetry(c *Config) {
	if c.Retry.Attempts < 1 || c.Retry.Attempts > 10 {
		l.fail("retry.attempts", "must be from 1 to 10")
	}
	for i, on := range c.Retry.On {
		n, err := strconv.Atoi(on)
		if slices.Contains(retryOn, on) || err == nil && (n == 408 || n == 409 || n == 425 || n == 429 || n >= 500 && n <= 599) {
			continue
		}
		sub := "retry.on[" + strconv.Itoa(i) + "]"
		if err == nil {
			l.fail(sub, "status %s is not tried again: 408, 409, 425, 429 and 500 to 599 can be", on)
			continue
		}
		l.fail(sub, "%s is not a status, %s%s", clip(on), quoted(retryOn), didYouMean(on, retryOn))
	}
}

// secret looks up a secret that is written as env:NAME or file:PATH.
func (l *loader) secret(path string, s *Secret) {
	at := l.place(path)
	if name, ok := strings.CutPrefix(s.ref, "env:"); ok {
		l.named[name] = true
		if s.value = l.env[name]; s.value == "" && !l.o.Offline {
			l.failAt(at, path, "the environment variable %s is not set", clip(name))
		}
	} else if file, ok := strings.CutPrefix(s.ref, "file:"); ok {
		if l.o.Offline {
			return
		}
		value, err := readSecret(file)
		if err != nil {
			l.failAt(at, path, "%v", err)
			return
		}
		s.value = value
	} else if s.value != "" && at.variable == "" {
		l.warn(path, "a secret stands in the file: write env:NAME or file:PATH")
	}
	if strings.ContainsFunc(s.value, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		l.failAt(at, path, "the secret holds a space, a line break or a character that is not ASCII")
	}
}

func readSecret(file string) (string, error) {
	st, err := os.Stat(file)
	if err != nil {
		return "", fmt.Errorf("the secret cannot be read: %w", err)
	}
	if !st.Mode().IsRegular() || st.Size() > 64<<10 {
		return "", fmt.Errorf("%s is not a small regular file", clip(file))
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("the secret cannot be read: %w", err)
	}
	value := strings.TrimSpace(string(b))
	if value == "" {
		return "", fmt.Errorf("%s is empty", clip(file))
	}
	return value, nil
}

// notYet warns of keys that are read and have no effect yet, so that nobody
// relies on them. A feature that lands deletes its line.
func (l *loader) notYet(c *Config) {
	idle := func(set bool, path string) {
		if set {
			l.warn(path, "is not enforced by this version")
		}
	}
	for _, a := range c.Models {
		idle(len(a.Weights) > 0 && a.Strategy != "weights", join("models", a.Name)+".weights")
	}
	if folder, ok := strings.CutPrefix(c.State, "file:"); ok && filepath.Clean(folder) != filepath.Clean(c.Data) {
		l.warn("state", "a folder apart from data is not supported by this version: data is used")
	}
	idle(c.Alerts.Set, "alerts")
	idle(c.Judges.Set, "judges")
	idle(c.OTLP.Set, "otlp")
	idle(c.OIDC.Set, "oidc")
	idle(c.Currencies.Set, "currencies")
}
