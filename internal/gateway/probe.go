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

// A probing is how the probes of one go.
type probing struct {
	mu    sync.Mutex
	under bool      // one is under way
	asked time.Time // when the last one began
	fails int       // in a row
}

// Probe asks the providers that are to be probed, each in its time, until ctx
// ends.
func (g *Gateway) Probe(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	all := map[probed]*probing{}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		c := g.config.Load()
		for i := range c.Providers {
			p := &c.Providers[i]
			for k := range p.Keys {
				id := probed{p.Name, p.Keys[k].Name}
				b := all[id]
				if b == nil {
					b = &probing{}
					all[id] = b
				}
				if b.due(p.Probe) {
					wg.Go(func() { g.probeOnce(ctx, p, &p.Keys[k], b) })
				}
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// due reports whether it is time for a probe, which then is under way.
func (b *probing) due(every time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if every <= 0 || b.under || time.Since(b.asked) < every {
		return false
	}
	b.under, b.asked = true, time.Now()
	return true
}

// probeOnce makes a probe and tells the deployments what comes of it.
func (g *Gateway) probeOnce(ctx context.Context, p *Provider, k *ProviderKey, b *probing) {
	good := g.probe(ctx, p, k)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.under = false
	if ctx.Err() != nil {
		return
	}
	was := b.fails >= probeFails
	if b.fails++; good {
		b.fails = 0
	}
	gone := b.fails >= probeFails
	switch {
	case gone && !was:
		g.log.Warn("a provider does not answer its probes", "provider", p.Name, "key", k.Name)
	case was && !gone:
		g.log.Info("a provider answers its probes again", "provider", p.Name, "key", k.Name)
	}
	if gone || was {
		g.deployments.probed(probed{p.Name, k.Name}, gone, gone != was, time.Now())
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

// probed takes to all models of a provider with a key that it is gone by its
// probes, or back; turned says that it has just become so. One that is back is
// tried with the next request. While it is gone they are passed over, and a
// request finds out only once in holdTime: where lists of models alone are
// broken it will be answered, and then it knows better.
func (t *deployments) probed(id probed, gone, turned bool, now time.Time) {
	t.each(func(d *deployment) {
		if d.id.provider != id.provider || d.id.key != id.key {
			return
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		b := &d.health
		switch {
		case !gone && b.openFor > 0:
			b.opened = now.Add(-b.openFor)
		case gone && turned:
			b.opened, b.openFor, b.probedAt = now, maxOpen, now
		case gone && b.openFor > 0 && now.Sub(b.probedAt) < holdTime:
			b.opened = now
		}
	})
}

// holdTime is how long no request goes to a provider that is gone, by its probes.
const holdTime = time.Minute
