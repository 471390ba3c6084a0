package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// Whether a provider works is learnt from clients' requests. One that is to be
// probed is asked beside them, for its list of models, which costs nothing: so
// it is passed over before a client has to find out that it is gone, and asked
// again as soon as it is back.

const (
	probeTime  = 10 * time.Second // how long a probe may take
	probeFails = 2                // in a row: the provider is gone
	probeBytes = 1 << 20          // of an answer that are read
)

// A probed is a provider with one of its keys.
type probed struct{ provider, key string }

// Probe asks the providers that are to be probed, each in its time, until ctx
// ends.
func (g *Gateway) Probe(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	var mu sync.Mutex
	asked, fails := map[probed]time.Time{}, map[probed]int{}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		c := g.config.Load()
		for i := range c.Providers {
			p := &c.Providers[i]
			for k := range p.Keys {
				id := probed{p.Name, p.Keys[k].Name}
				mu.Lock()
				due := p.Probe > 0 && time.Since(asked[id]) >= p.Probe
				if due {
					asked[id] = time.Now().Add(probeTime) // while it is under way
				}
				mu.Unlock()
				if !due {
					continue
				}
				wg.Go(func() {
					began := time.Now()
					good := g.probe(ctx, p, &p.Keys[k])
					mu.Lock()
					defer mu.Unlock()
					asked[id] = began
					if ctx.Err() != nil {
						return
					}
					was := fails[id] >= probeFails
					if fails[id]++; good {
						fails[id] = 0
					}
					switch gone := fails[id] >= probeFails; {
					case gone && !was:
						g.log.Warn("a provider does not answer its probes", "provider", p.Name, "key", id.key)
						g.deployments.probed(id, true, false, time.Now())
					case was && !gone:
						g.log.Info("a provider answers its probes again", "provider", p.Name, "key", id.key)
						g.deployments.probed(id, true, true, time.Now())
					case gone:
						g.deployments.probed(id, false, false, time.Now())
					}
				})
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// probe asks a provider for its models and reports whether it is there: a
// refusal is an answer too.
func (g *Gateway) probe(ctx context.Context, p *Provider, k *ProviderKey) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	u, err := g.url(address{p.Spec.BaseURL, "/models"})
	if err != nil {
		return false
	}
	req := (&http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{}}).WithContext(ctx)
	p.Spec.Dialect.SetHeader(req.Header, k.Secret, nil)
	req.Header.Del("Content-Type")
	res, err := g.fresh.RoundTrip(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	_, err = io.CopyN(io.Discard, res.Body, probeBytes)
	return (err == nil || errors.Is(err, io.EOF)) && res.StatusCode < http.StatusInternalServerError
}

// probed takes a probe's result to all models of a provider with a key. The first
// that is good again has them tried with the next request. While it is gone they
// are passed over, and a request finds out only once in holdTime: where lists of
// models alone are broken it will be answered, and then it knows better.
func (t *deployments) probed(id probed, turned, good bool, now time.Time) {
	t.each(func(d *deployment) {
		if d.id.provider != id.provider || d.id.key != id.key {
			return
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		b := &d.health
		switch {
		case good && turned && b.openFor > 0:
			b.opened = now.Add(-b.openFor)
		case good:
		case turned:
			b.opened, b.openFor, b.probedAt = now, maxOpen, now
		case b.openFor > 0 && now.Sub(b.probedAt) < holdTime:
			b.opened = now
		}
	})
}

// holdTime is how long no request goes to a provider that is gone, by its probes.
const holdTime = time.Minute
