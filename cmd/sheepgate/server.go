package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/url"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sheepgate/sheepgate/internal/call"
	"github.com/sheepgate/sheepgate/internal/config"
	"github.com/sheepgate/sheepgate/internal/console"
	"github.com/sheepgate/sheepgate/internal/gateway"
	"github.com/sheepgate/sheepgate/internal/limit"
	"github.com/sheepgate/sheepgate/internal/llm"
	"github.com/sheepgate/sheepgate/internal/metrics"
	"github.com/sheepgate/sheepgate/internal/price"
	"github.com/sheepgate/sheepgate/internal/provider"
	"github.com/sheepgate/sheepgate/internal/redact"
	"github.com/sheepgate/sheepgate/internal/state"
	"github.com/sheepgate/sheepgate/internal/store"
	"github.com/sheepgate/sheepgate/internal/store/local"
)

// A server is a running Sheepgate: every object wired to those it needs.
type server struct {
	url      string
	adminKey string // as made at this start; "" if it was there before
	world    world
	log      *slog.Logger

	ring *state.Keyring
	keys *state.Keys

	applying sync.Mutex     // see applyKeys
	config   *config.Config // whose keys are good
	admin    state.Digest   // of the admin key

	// keysChanged is told the keys made at run time that are good, after each
	// change of any key and in its order; nil means nobody wants to know.
	keysChanged func(context.Context, []config.Key)

	state    *state.State
	store    store.Store
	recorder *call.Recorder
	limits   *limit.Limiter
	ledger   *ledger
	gateway  *gateway.Gateway
	current  atomic.Pointer[gateway.Config] // that is in force
	pricing  atomic.Pointer[pricing]        // that its prices are made of
	metrics  *metrics.Metrics
	bodies   *redactor
	reloader atomic.Pointer[reloader] // nil: the configuration is not read again
	http     *http.Server
	debug    *http.Server // nil without profiles
	listener *gateway.Listener
	abort    context.CancelCauseFunc // ends the requests under way
	served   chan error
	unprobe  func() // ends the probes of providers; nil before they begin

	configuring sync.Mutex // held while current and pricing change
}

// A world is what the server reaches outside of itself; a test brings another.
type world struct {
	listen func(network, addr string) (net.Listener, error)
	dial   func(ctx context.Context, network, addr string) (net.Conn, error) // to upstreams; nil means over the network
	disk   local.Disk                                                        // of the store; nil means the machine's
}

// startServer builds everything from a checked configuration and begins to
// serve. demoKey is for the console of a demo, else "".
func startServer(c *config.Config, log *slog.Logger, demoKey string) (*server, error) {
	return world{listen: net.Listen}.start(c, log, demoKey)
}

func (w world) start(c *config.Config, log *slog.Logger, demoKey string) (*server, error) {
	s := &server{world: w, log: log, served: make(chan error, 1)}
	if err := s.start(c, demoKey); err != nil {
		if s.adminKey != "" { // nobody has seen it
			err = errors.Join(err, s.state.ForgetAdmin())
		}
		return nil, errors.Join(err, s.release())
	}
	return s, nil
}

// start fills s. What it has opened when it fails is the caller's to release.
func (s *server) start(c *config.Config, demoKey string) (err error) {
	log := s.log
	p, err := readPricing(c)
	if err != nil {
		return exitError{exitConfig, err}
	}
	p.setAside(log)
	s.pricing.Store(p)
	if s.state, err = state.Open(c.Data); err != nil {
		return err
	}
	if s.state.SetAside != "" {
		log.Error("state.db cannot be read: it is set aside and begun anew", "as", s.state.SetAside)
	}
	s.ring = s.state.NewKeyring()
	g, err := gatewayConfig(c, p.catalogue(), s.ring.Find)
	if err != nil {
		return err
	}
	s.current.Store(g)
	if s.keys, err = openKeys(s.state, c, s.current.Load); err != nil {
		return err
	}
	s.keys.Changed = func() { s.applyKeys(context.Background()) }
	if s.adminKey, err = s.takeKeys(context.Background(), c); err != nil {
		return err
	}
	if s.store, err = servedStore(c, log, s.world.disk); err != nil {
		return err
	}
	g.Dial = s.world.dial
	s.limits = limit.New(c.Timezone.Location, marked(log))
	g.Limits = s.limits
	s.ledger = &ledger{limits: s.limits, state: s.state, store: s.store, log: log, linger: time.Minute}
	s.keysChanged = func(ctx context.Context, made []config.Key) { s.setRules(ctx, s.config, made) }
	s.applyKeys(context.Background())
	if err := s.ledger.replay(context.Background()); err != nil {
		log.Error("the calls of the last minute are not counted in the limits", "err", err)
	}
	tail := &call.Tail{}
	m := metrics.New(metrics.Options{
		Models: configured(g), Providers: providerNames(g), Version: version(),
		Known: func(p, model string) bool {
			found, ok := s.current.Load().Prices.Find(p, model)
			return ok && found.ID == model
		},
		Live:    func() call.Live { return s.gateway.Live() },
		Pending: func() int64 { return s.recorder.Pending() },
		Lost:    func() int64 { return s.recorder.Lost() },
		Bare:    func() int64 { return s.recorder.Bare() },
		Reloads: func() (good, bad int64, failing bool) {
			if r := s.reloader.Load(); r != nil {
				return r.counts()
			}
			return 0, 0, false
		},
	})
	s.metrics, s.bodies = m, &redactor{}
	s.bodies.set(c, g)
	s.recorder = call.NewRecorder(log, []func(*call.Call){m.Observe}, tail, s.bodies, s.store, m)
	s.gateway = gateway.New(g, nil, s.recorder.Add, m.Unauthenticated, log)

	mux := http.NewServeMux()
	s.gateway.Register(mux)
	mux.Handle("GET /v1/metrics", m.Handler(s.ring.Find))
	for _, p := range []string{"/v1/metrics", "/healthz", "/readyz"} {
		mux.HandleFunc(p, gateway.WrongMethod("GET, HEAD"))
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.ready)
	sessions, err := s.state.NewSessions(s.ring)
	if err != nil {
		return err
	}
	pages := console.New(console.Options{
		Store: s.store, Auth: s.ring.Find, Sessions: sessions, Keys: s.keys, Audit: s.state.Audit, Note: s.state.Note, DemoKey: demoKey, Example: example(c, g), Tail: tail, Zone: c.Timezone.Location, Log: log, Version: version(),
		Price:       func() *price.Catalogue { return s.current.Load().Prices },
		Install:     s.updatePrices,
		Deployments: func() []console.Deployment { return deployments(s.current.Load()) },
		Estimate:    func(p *call.Principal, ask call.Ask) (call.Estimate, *llm.Error) { return s.gateway.Estimate(p, ask) },
		Live:        s.gateway.Live, InFlight: s.gateway.InFlight, Pending: s.recorder.Pending, Lost: s.recorder.Lost,
		Record: func(k *call.Call) { s.recorder.Add(k, nil) },
	})
	mux.Handle("/", pages)
	ln, err := s.world.listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s.url = "http://" + ln.Addr().String()
	s.listener = &gateway.Listener{Listener: ln}
	base, abort := context.WithCancelCause(context.Background())
	s.abort = abort
	s.http = &http.Server{
		Handler: gateway.Exact(mux), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return base },
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	s.http.RegisterOnShutdown(pages.Close) // an open page must not hold the drain
	if err := s.profiles(c.Debug); err != nil {
		return errors.Join(err, ln.Close())
	}
	s.ledger.run()
	probing, stop := context.WithCancel(base)
	probed := make(chan struct{})
	go func() {
		defer close(probed)
		s.gateway.Probe(probing)
	}()
	s.unprobe = func() { stop(); <-probed }
	go func() { s.served <- s.http.Serve(s.listener) }()
	return nil
}

// apply puts a configuration in force while serving: all of it but what
// config.Fixed names. Requests under way keep the one they began with. If it
// fails nothing has changed.
func (s *server) apply(ctx context.Context, c *config.Config) error {
	s.configuring.Lock()
	defer s.configuring.Unlock()
	p, err := readPricingIn(c, filepath.Dir(s.pricing.Load().file)) // data changes with the next start only
	if err != nil {
		return err
	}
	g, err := gatewayConfig(c, p.catalogue(), s.ring.Find)
	if err != nil {
		return err
	}
	if s.adminKey, err = s.takeKeys(ctx, c); err != nil { // and limits with them
		return err
	}
	s.metrics.Configure(configured(g), providerNames(g))
	s.bodies.set(c, g)
	s.pricing.Store(p)
	s.current.Store(g)
	s.gateway.SetConfig(g)
	return nil
}

// profiles serves pprof on a listener of its own, if there is to be one.
func (s *server) profiles(addr string) error {
	if addr == "" {
		return nil
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("debug: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("POST /debug/free", func(http.ResponseWriter, *http.Request) { debug.FreeOSMemory() }) // what is resident then is held
	s.debug = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: s.http.ErrorLog}
	s.log.Info("profiles are served", "url", "http://"+ln.Addr().String()+"/debug/pprof/")
	go func() { _ = s.debug.Serve(ln) }() // ends with Close
	return nil
}

// servedStore opens the store of a configuration, or one that is late: what is
// wrong with the disk for a while is no reason to serve nobody.
func servedStore(c *config.Config, log *slog.Logger, disk local.Disk) (store.Store, error) {
	s, err := openLocal(c, log, disk)
	switch {
	case errors.Is(err, store.ErrUnavailable):
		return store.NewLate(err, func() (store.Store, error) { return openLocal(c, log, disk) }, log), nil
	case err != nil:
		return nil, err
	}
	return s, nil
}

// openLocal opens the store of a configuration.
func openLocal(c *config.Config, log *slog.Logger, disk local.Disk) (*local.Store, error) {
	return local.Open(storeFolder(c), local.Options{Log: log, Disk: disk,
		Calls: time.Duration(c.Retention.Calls), Bodies: time.Duration(c.Retention.Bodies), Bytes: int64(c.Retention.Disk)})
}

// storeFolder is where a configuration keeps Calls.
func storeFolder(c *config.Config) string {
	folder, ok := strings.CutPrefix(c.Store, "file:")
	if !ok {
		folder = c.Data
	}
	return filepath.Join(folder, callsFolder)
}

// ready says that calls are served, and what does not work beside that.
func (s *server) ready(w http.ResponseWriter, _ *http.Request) {
	answer := struct {
		Status   string   `json:"status"`
		Degraded []string `json:"degraded"`
	}{"ok", []string{}}
	if err := s.store.Health(); err != nil {
		answer.Degraded = append(answer.Degraded, "store: "+err.Error())
	}
	if s.state.SetAside != "" {
		answer.Degraded = append(answer.Degraded, "state: state.db could not be read and was set aside as "+filepath.Base(s.state.SetAside))
	}
	if bad := s.pricing.Load().bad; bad != "" {
		answer.Degraded = append(answer.Degraded, "prices: "+bad)
	}
	if s.recorder.Failing() {
		answer.Degraded = append(answer.Degraded, "recorder: calls cannot be stored at the moment")
	}
	if n := s.recorder.Lost(); n > 0 {
		answer.Degraded = append(answer.Degraded, fmt.Sprintf("recorder: %d calls lost since the start", n))
	}
	w.Header().Set("Content-Type", "application/json")
	if s.listener.Failing() { // this one came in on an old connection
		answer.Status = "unavailable"
		answer.Degraded = append(answer.Degraded, "listener: connections cannot be accepted, the file descriptors are used up")
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(answer) // the client may be gone
}

// lastWords is the time for streams that outlive the drain to be told so.
const lastWords = 2 * time.Second

// close drains: no new connection, streams finish until ctx ends, those that
// have not get an error, then every Call is written.
func (s *server) close(ctx context.Context) error {
	if s.http.Shutdown(ctx) != nil {
		s.log.Warn("requests outlived the drain and are ended", "requests", s.gateway.InFlight())
		s.abort(gateway.ErrShutdown)
		last, cancel := context.WithTimeout(context.Background(), lastWords)
		defer cancel()
		if s.http.Shutdown(last) != nil {
			s.http.Close() // a client that does not read them
		}
	}
	flush, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return errors.Join(s.recorder.Close(flush), s.release())
}

// release closes what is open. It may be called of a server that did not start.
func (s *server) release() error {
	var err error
	if s.unprobe != nil {
		s.unprobe()
	}
	s.ledger.close()
	if s.debug != nil {
		err = s.debug.Close()
	}
	if s.recorder != nil {
		err = errors.Join(err, s.recorder.Close(context.Background())) // empty, or closed before
	}
	if s.store != nil {
		err = errors.Join(err, s.store.Close())
	}
	if s.state != nil {
		err = errors.Join(err, s.state.Close())
	}
	return err
}

// A redactor stands before the sinks that keep bodies: what must not be kept is
// cut out where they are, once, before the store sees them.
type redactor struct {
	atomic.Pointer[redact.Redactor]
}

func (r *redactor) set(c *config.Config, g *gateway.Config) {
	r.Store(&redact.Redactor{Secrets: g.Secrets, Patterns: c.Privacy.Bodies == "redacted"})
}

// Write implements call.Sink.
func (r *redactor) Write(_ context.Context, batch []call.Entry) error {
	for i, e := range batch {
		if e.Exchange != nil && !r.redact(e.Exchange) {
			batch[i].Exchange = nil
		}
	}
	return nil
}

// redact reports whether it could: a body that it stumbles over is not kept, and
// stops nobody.
func (r *redactor) redact(x *call.Exchange) (ok bool) {
	defer func() { ok = recover() == nil }()
	now := r.Load()
	x.Request, x.Response = now.Body(x.Request), now.Body(x.Response)
	return
}

// gatewayConfig makes the data plane's view of the configuration.
func gatewayConfig(c *config.Config, prices *price.Catalogue, auth call.Auth) (*gateway.Config, error) {
	g := &gateway.Config{
		Auth: auth, Prices: prices, Keep: c.Privacy.Bodies != "off", Idempotency: time.Duration(c.Idempotency),
		Retry: gateway.Retry{Attempts: c.Retry.Attempts, On: retryOn(c.Retry.On)},
		Timeouts: gateway.Timeouts{Connect: time.Duration(c.Timeouts.Connect), FirstToken: time.Duration(c.Timeouts.FirstToken),
			Idle: time.Duration(c.Timeouts.Idle), Total: time.Duration(c.Timeouts.Total)},
	}
	for _, p := range c.Providers {
		spec, err := specOf(p)
		if err != nil {
			return nil, err
		}
		up := gateway.Provider{Name: p.Name, Spec: spec, Probe: time.Duration(p.Probe), Keys: []gateway.ProviderKey{{Secret: p.Key.Value()}}}
		if len(p.Keys) > 0 {
			up.Keys = nil
		}
		for _, k := range p.Keys {
			up.Keys = append(up.Keys, gateway.ProviderKey{Name: k.Name, Secret: k.Key.Value()})
		}
		for _, k := range up.Keys {
			g.Secrets = append(g.Secrets, k.Secret)
		}
		g.Providers = append(g.Providers, up)
	}
	for _, a := range c.Models {
		alias := gateway.Route{Alias: a.Name, Strategy: gateway.Strategy(a.Strategy), Weights: a.Weights, Sticky: a.Sticky == "session", Hedge: time.Duration(a.Hedge)}
		for _, u := range a.Use {
			for i := range g.Providers {
				if g.Providers[i].Name == u.Provider {
					alias.Targets = append(alias.Targets, gateway.Target{Provider: &g.Providers[i], Model: u.Model})
				}
			}
		}
		g.Aliases = append(g.Aliases, alias)
	}
	return g, nil
}

// specOf is the Spec of a configured provider: the vendor's of its type or
// name, at the address of the configuration.
func specOf(p config.Provider) (provider.Spec, error) {
	kind := p.Type
	if kind == "" {
		kind = p.Name
	}
	spec, ok := provider.Lookup(kind)
	if !ok {
		return spec, fmt.Errorf("provider %s: type %q is not known", p.Name, kind)
	}
	if p.BaseURL != "" {
		spec.BaseURL = p.BaseURL
	}
	if _, err := url.Parse(spec.BaseURL); err != nil {
		return spec, fmt.Errorf("provider %s: %w", p.Name, err)
	}
	return spec, nil
}

// retryOn turns the configuration's words into error classes.
func retryOn(words []string) map[llm.ErrorClass]bool {
	on := map[llm.ErrorClass]bool{}
	for _, w := range words {
		switch {
		case w == "429":
			on[llm.RateLimited] = true
		case strings.HasPrefix(w, "5"):
			on[llm.UpstreamError], on[llm.Overloaded], on[llm.BadUpstream] = true, true, true
		case w == "timeout":
			on[llm.Timeout] = true
		case w == "connect":
			on[llm.Connect] = true
		}
	}
	return on
}

func providerNames(g *gateway.Config) []string {
	var names []string
	for i := range g.Providers {
		names = append(names, g.Providers[i].Name)
	}
	return names
}

// example is a model that a first call may name: an alias, else one that the
// catalogue gives to a configured provider; "" without a provider.
func example(c *config.Config, g *gateway.Config) string {
	if len(c.Models) > 0 {
		return c.Models[0].Name
	}
	for _, p := range g.Providers {
		for _, m := range []string{"gpt-4.1", "claude-sonnet-4-5", "gemini-2.5-flash", "deepseek-chat"} {
			if slices.Contains(g.Prices.Home(m), p.Name) {
				return m
			}
		}
	}
	if len(g.Providers) == 0 {
		return ""
	}
	name := g.Providers[0].Name
	for _, m := range g.Prices.Models() {
		if m.Provider == name {
			return name + "/" + m.ID
		}
	}
	return name + "/MODEL" // a provider of one's own: which models it has, only its owner knows
}

// configured are the models whose metrics exist from the start: the targets of
// aliases, and what the catalogue gives to a configured provider.
func configured(g *gateway.Config) []metrics.Model {
	var list []metrics.Model
	seen := map[metrics.Model]bool{}
	add := func(m metrics.Model) {
		if !seen[m] {
			seen[m] = true
			list = append(list, m)
		}
	}
	for _, a := range g.Aliases {
		for _, t := range a.Targets {
			model := t.Model
			if m, ok := g.Prices.Find(t.Provider.Name, t.Model); ok {
				model = m.ID
			}
			add(metrics.Model{Provider: t.Provider.Name, Model: model})
		}
	}
	for _, m := range g.Prices.Models() {
		for _, p := range g.Providers {
			if p.Name == m.Provider {
				add(metrics.Model{Provider: p.Name, Model: m.ID})
			}
		}
	}
	return list
}
