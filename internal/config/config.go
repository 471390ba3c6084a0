// Package config reads Sheepgate's one configuration file. Load is the way in:
// it turns sheepgate.yaml and the environment into a Config, or into Problems
// that name every mistake at once, each with its file, line and column.
//
// A Config is plain values. The package opens nothing, connects to nothing and
// imports nothing of ours: package main turns the values into objects.
package config

import (
	"fmt"
	"io"
	"os"
	"time"
)

// Config is the whole configuration. The yaml tag of a field is its key, the
// jsonschema_description tag is what the editor's schema and docs/config.md
// say about it.
type Config struct {
	Listen      string     `yaml:"listen" jsonschema_description:"Address of the gateway, the API and the console, as host:port. Anything but a loopback address is reachable from other machines."`
	Debug       string     `yaml:"debug" jsonschema_description:"Loopback address of a second listener with profiles of the running program (/debug/pprof/; POST /debug/free returns free memory to the system), e.g. 127.0.0.1:6060. Absent: there is none."`
	Data        string     `yaml:"data" jsonschema_description:"Folder of everything durable; sheepgate backup copies it, also while it is in use."`
	Store       string     `yaml:"store" jsonschema_description:"Where calls are kept, as file:FOLDER. Absent: the data folder."`
	State       string     `yaml:"state" jsonschema_description:"Where keys and budgets are kept, as file:FOLDER. Absent: the data folder."`
	Limits      string     `yaml:"limits" jsonschema_description:"Where limits are counted. Absent: in this process."`
	AdminKey    Secret     `yaml:"admin_key" jsonschema_description:"The key of the API and the console. Absent: one is made at the first start and shown once."`
	Timezone    Zone       `yaml:"timezone" jsonschema_description:"What a day, a month and a budget's period mean, e.g. Asia/Seoul."`
	Providers   []Provider `yaml:"providers" jsonschema_description:"Upstreams by name. If two have a model, the first in the file answers a request that names no provider."`
	Models      []Alias    `yaml:"models" jsonschema_description:"Aliases: names that clients may use as a model."`
	Teams       []Team     `yaml:"teams" jsonschema_description:"Groups of keys, by the name that keys give as their team."`
	Rules       []Rule     `yaml:"rules" jsonschema_description:"Further limits and budgets, by name: of a key on a model, of a model at a provider, or of any other combination."`
	Keys        []Key      `yaml:"keys" jsonschema_description:"Keys of the applications that call the gateway, by name."`
	Retention   Retention  `yaml:"retention" jsonschema_description:"How long things are kept."`
	Privacy     Privacy    `yaml:"privacy" jsonschema_description:"What is kept of prompts and answers."`
	Retry       Retry      `yaml:"retry" jsonschema_description:"When a failed attempt is tried again, at the same provider or the alias's next one."`
	Timeouts    Timeouts   `yaml:"timeouts" jsonschema_description:"How long to wait for an upstream."`
	Idempotency Duration   `yaml:"idempotency" jsonschema_description:"How long the answer to a request with an Idempotency-Key header is kept in memory and given again to the same request, e.g. 24h. Absent: the header means nothing."`
	Prices      Prices     `yaml:"prices" jsonschema_description:"The price catalogue."`

	Alerts     Later `yaml:"alerts" jsonschema_description:"Reserved."`
	Judges     Later `yaml:"judges" jsonschema_description:"Reserved."`
	OTLP       Later `yaml:"otlp" jsonschema_description:"Reserved."`
	OIDC       Later `yaml:"oidc" jsonschema_description:"Reserved."`
	Currencies Later `yaml:"currencies" jsonschema_description:"Reserved."`
}

// A Provider is an upstream.
type Provider struct {
	Name    string        `yaml:"-"`
	Type    string        `yaml:"type" jsonschema_description:"The known provider that it speaks like, e.g. openai. Absent: the one of the same name."`
	BaseURL string        `yaml:"base_url" jsonschema_description:"Where it is, with the version path, e.g. http://127.0.0.1:11434/v1. Absent: the known provider's own address."`
	Key     Secret        `yaml:"key" jsonschema_description:"Its API key. Absent: the provider's usual environment variable, or none if base_url is set."`
	Keys    []ProviderKey `yaml:"keys" jsonschema_description:"In place of key, several by name: a request goes to the one with the most room."`
	Limits  Limits        `yaml:"limits" jsonschema_description:"Limits of the provider over all keys and models."`
	Probe   Duration      `yaml:"probe" jsonschema_description:"How often it is asked, for its list of models, whether it is there, e.g. 10s: then it is passed over before a request finds that it is gone. Absent: requests alone tell."`
}

// A ProviderKey is one of several API keys of a provider.
type ProviderKey struct {
	Name string `yaml:"-"`
	Key  Secret `yaml:"key" jsonschema_description:"The API key."`
}

// An Alias is a name for one or more models at providers.
type Alias struct {
	Name     string    `yaml:"-"`
	Use      []Target  `yaml:"use" jsonschema_description:"The models behind the alias, each as provider/model, in order of preference."`
	Strategy string    `yaml:"strategy" jsonschema:"enum=fallback,enum=latency,enum=price,enum=weights,enum=headroom" jsonschema_description:"Which of them is asked first: fallback takes them in order, latency the one whose first token comes soonest, price the cheapest for the request, weights one by chance, headroom the one with the most left of its provider's limits. The others follow if it fails."`
	Hedge    Duration  `yaml:"hedge" jsonschema_description:"A request that is no stream and not answered by then is sent to the next one too, and the first good answer counts, e.g. 5s. Both are billed. Absent: never."`
	Sticky   string    `yaml:"sticky" jsonschema:"enum=session,enum=off" jsonschema_description:"session: requests of one session go to the same one as long as it works, so that its prompt cache helps."`
	Weights  []float64 `yaml:"weights" jsonschema_description:"For strategy weights: one number for each model of use."`
	Limits   Limits    `yaml:"limits" jsonschema_description:"Limits of the alias over all keys."`
}

// A Key is what an application calls the gateway with.
type Key struct {
	Name    string   `yaml:"-"`
	Key     Secret   `yaml:"key" jsonschema_description:"The key itself."`
	Team    string   `yaml:"team" jsonschema_description:"The team that its calls are counted for."`
	Models  []string `yaml:"models" jsonschema_description:"The aliases and models it may use. Absent: all."`
	Budget  []Budget `yaml:"budget" jsonschema_description:"The most it may spend in a period, e.g. $200/month, or several of these."`
	Limits  Limits   `yaml:"limits" jsonschema_description:"Limits of this key."`
	Metrics bool     `yaml:"metrics" jsonschema_description:"It may read /v1/metrics and nothing else."`
}

// A Team is a group of keys.
type Team struct {
	Name   string   `yaml:"-"`
	Budget []Budget `yaml:"budget" jsonschema_description:"The most its keys may spend together."`
	Limits Limits   `yaml:"limits" jsonschema_description:"Limits of its keys together."`
}

// A Rule is limits and a budget of all calls that it matches.
type Rule struct {
	Name     string   `yaml:"-"`
	Key      string   `yaml:"key" jsonschema_description:"Calls of this key."`
	Team     string   `yaml:"team" jsonschema_description:"Calls of the team's keys."`
	Model    string   `yaml:"model" jsonschema_description:"Calls of this alias; or attempts at this model, as the price catalogue names it."`
	Provider string   `yaml:"provider" jsonschema_description:"Attempts at this provider."`
	Budget   []Budget `yaml:"budget" jsonschema_description:"The most they may cost together."`
	Limits   Limits   `yaml:"limits" jsonschema_description:"Limits of them together."`
}

// Limits bound what is asked for. Zero means no limit.
type Limits struct {
	RPM        Count `yaml:"rpm" jsonschema_description:"Requests per minute."`
	TPM        Count `yaml:"tpm" jsonschema_description:"Tokens per minute, input and output together."`
	InputTPM   Count `yaml:"input_tpm" jsonschema_description:"Input tokens per minute."`
	OutputTPM  Count `yaml:"output_tpm" jsonschema_description:"Output tokens per minute."`
	Concurrent Count `yaml:"concurrent" jsonschema_description:"Requests at the same time."`
}

// Retention says how long things are kept.
type Retention struct {
	Calls  Duration `yaml:"calls" jsonschema_description:"Age at which calls are deleted."`
	Bodies Duration `yaml:"bodies" jsonschema_description:"Age at which kept prompts and answers are deleted."`
	Disk   Size     `yaml:"disk" jsonschema_description:"The most that the data folder may hold; the oldest go first."`
}

// Privacy says what is kept of prompts and answers.
type Privacy struct {
	Bodies string `yaml:"bodies" jsonschema:"enum=off,enum=redacted,enum=full" jsonschema_description:"off keeps no prompts or answers, redacted keeps them without personal data and secrets, full keeps them as they were."`
}

// Retry says when an attempt is tried again.
type Retry struct {
	Attempts int      `yaml:"attempts" jsonschema_description:"The most attempts for one request, the first included: 1 to 10."`
	On       []string `yaml:"on" jsonschema_description:"What is tried again: an HTTP status (429), a class of them (5xx), timeout or connect."`
}

// Timeouts bound the waiting for an upstream, and for streams at the end.
type Timeouts struct {
	Connect    Duration `yaml:"connect" jsonschema_description:"Until the connection stands, TLS included."`
	FirstToken Duration `yaml:"first_token" jsonschema_description:"Of a stream: from the request to the first token."`
	Idle       Duration `yaml:"idle" jsonschema_description:"Of a stream: between two tokens, or from the last one to its end."`
	Total      Duration `yaml:"total" jsonschema_description:"For one request, all attempts included."`
	Drain      Duration `yaml:"drain" jsonschema_description:"For open streams to finish after SIGTERM."`
}

// Prices says where prices come from besides the built-in catalogue.
type Prices struct {
	Overrides string `yaml:"overrides" jsonschema_description:"A YAML file with dated price rows of your own."`
}

// Later is a section that has its name but no meaning yet.
type Later struct{ Set bool }

// Default is the configuration of an empty file.
func Default() *Config {
	return &Config{
		Listen:    "127.0.0.1:8080",
		Data:      "./data",
		Timezone:  Zone{time.UTC},
		Retention: Retention{Calls: 90 * Day, Bodies: 7 * Day, Disk: 20 << 30},
		Privacy:   Privacy{Bodies: "off"},
		Retry:     Retry{Attempts: 3, On: []string{"429", "5xx", "timeout", "connect"}},
		Timeouts: Timeouts{
			Connect:    Duration(5 * time.Second),
			FirstToken: Duration(60 * time.Second),
			Idle:       Duration(60 * time.Second),
			Total:      Duration(10 * time.Minute),
			Drain:      Duration(25 * time.Second),
		},
	}
}

// A KnownProvider is what the caller knows of a vendor.
type KnownProvider struct {
	Name    string
	BaseURL string
	KeyEnv  string // the usual environment variable of its key; "" if it needs none
}

// Options is what Load must be told.
type Options struct {
	// Environ holds "NAME=value" lines, as os.Environ does.
	Environ []string
	// Known are the vendors with a Spec, in the order in which they are tried
	// when there is no file.
	Known []KnownProvider
	// Offline reads the file as it would be read on another machine: secrets
	// are not looked up, so that a missing one is no problem.
	Offline bool
}

const maxFileBytes = 4 << 20

// Load reads the file at path, puts the environment over it and checks the
// whole. With path "" there is no file: every known provider whose usual
// variable is set becomes one. The error is Problems unless the file cannot be
// read at all; warnings come in either case.
func Load(path string, o Options) (c *Config, warnings []Problem, err error) {
	var data []byte
	if path != "" {
		if data, err = readFile(path); err != nil {
			return nil, nil, fmt.Errorf("config: %w", err)
		}
	}
	return Parse(path, data, o)
}

// readFile reads a file of bounded length, whatever its size says: it may be
// a device.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(data) > maxFileBytes {
		err = fmt.Errorf("%s is longer than %d bytes", path, maxFileBytes)
	}
	return data, err
}

// Parse is Load for a file that has been read: path only names it.
func Parse(path string, data []byte, o Options) (c *Config, warnings []Problem, err error) {
	l := newLoader(path, o)
	c = Default()
	if path == "" {
		l.fromEnvironment(c)
	} else if !l.decodeFile(c, data) {
		return nil, nil, l.errors
	}
	l.overlay(c)
	l.check(c)
	l.sort()
	if len(l.errors) > 0 {
		return nil, l.warnings, l.errors
	}
	return c, l.warnings, nil
}
