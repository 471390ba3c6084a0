package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/sheepgate/sheepgate/internal/config"
	"github.com/sheepgate/sheepgate/internal/console"
	"github.com/sheepgate/sheepgate/internal/gateway"
	"github.com/sheepgate/sheepgate/internal/price"
	"github.com/sheepgate/sheepgate/internal/store/local"
)

// installedPrices is the file of a data folder that `prices update` writes.
const installedPrices = "prices.json"

// A pricing is what prices are made of: the built-in catalogue, a file that was
// installed over it, and the rows of prices.overrides before both.
type pricing struct {
	file    string           // where the installed one is, or would be
	base    *price.Catalogue // built-in and installed
	own     *price.Catalogue // nil without prices.overrides
	bad     string           // why the installed one does not count; "" if it does, or there is none
	damaged bool             // it cannot be what was installed
}

// readPricing reads the price files of a configuration, each once. What is wrong
// with the installed one is in bad; with prices.overrides, an error.
func readPricing(c *config.Config) (*pricing, error) {
	return readPricingIn(c, c.Data)
}

// readPricingIn is readPricing for a data folder that is in use already.
func readPricingIn(c *config.Config, data string) (*pricing, error) {
	p := &pricing{file: filepath.Join(data, installedPrices), base: price.Default()}
	p.readInstalled()
	if c.Prices.Overrides == "" {
		return p, nil
	}
	text, err := price.ReadFile(c.Prices.Overrides, price.MaxFile)
	if err != nil {
		return nil, fmt.Errorf("prices.overrides: %w", err)
	}
	p.own, err = price.Parse(text)
	if problems := (price.Problems)(nil); errors.As(err, &problems) {
		var list config.Problems
		for _, m := range problems {
			list = append(list, config.Problem{File: c.Prices.Overrides, Line: m.Line, Column: m.Column, Path: m.Path, Message: m.Msg})
		}
		return nil, list
	}
	return p, err
}

func (p *pricing) readInstalled() {
	data, err := price.ReadFile(p.file, price.MaxInstalled)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if list, _ := filepath.Glob(p.file + ".*.quarantine"); len(list) > 0 { // fails for no such pattern
			p.bad = "the installed prices could not be read and were set aside as " + filepath.Base(list[len(list)-1]) + ": the built-in ones count; install them again, or delete it"
		}
		return
	case err != nil && !errors.Is(err, price.ErrTooLong):
		p.bad = fmt.Sprintf("the installed prices cannot be read at the moment, the built-in ones count: %v", err)
		return
	}
	var c *price.Catalogue
	if err == nil {
		c, _, err = price.ReadInstalled(data)
	}
	if err != nil {
		p.bad, p.damaged = fmt.Sprintf("the installed prices in %s cannot be read, the built-in ones count: %v", installedPrices, err), true
		return
	}
	p.base = price.Default().Update(c)
}

// catalogue is what is in force.
func (p *pricing) catalogue() *price.Catalogue { return p.over(p.base) }

func (p *pricing) over(base *price.Catalogue) *price.Catalogue {
	if p.own == nil {
		return base
	}
	return base.With(p.own)
}

// setAside renames an installed file that is damaged.
func (p *pricing) setAside(log *slog.Logger) {
	if !p.damaged {
		if p.bad != "" {
			log.Error("the installed prices do not count", "why", p.bad)
		}
		return
	}
	aside := fmt.Sprintf("%s.%d.quarantine", p.file, time.Now().UnixMilli())
	err := os.Rename(p.file, aside)
	log.Error("the installed prices cannot be read and are set aside, the built-in ones count", "as", filepath.Base(aside), "why", p.bad, "err", err)
	if err == nil {
		p.damaged = false
	}
}

// update says what a price file would change, and if it is no dry run installs
// it: whole and synced, or not at all. The error of a file that is wrong is
// price.Problems.
func (p *pricing) update(text []byte, dry bool) (*pricing, *console.PriceUpdate, error) {
	c, err := price.Parse(text)
	if err != nil {
		return nil, nil, err
	}
	next := &pricing{file: p.file, base: price.Default().Update(c), own: p.own}
	u := console.NewPriceUpdate(price.Diff(p.catalogue(), next.catalogue()), next.base.Version(), !dry)
	if dry {
		return p, u, nil
	}
	if err := os.MkdirAll(filepath.Dir(p.file), 0o700); err != nil {
		return nil, nil, err
	}
	half := p.file + ".new" // one that a kill left is written over
	f, err := os.OpenFile(half, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, nil, err
	}
	if _, err = f.Write(price.EncodeInstalled(text, time.Now())); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(half, p.file)
	}
	if err == nil {
		err = local.SyncFolder(filepath.Dir(p.file))
	}
	if err != nil {
		return nil, nil, err
	}
	return next, u, nil
}

// updatePrices is update for a server: what it installs counts from the next
// request on.
func (s *server) updatePrices(text []byte, dry bool) (*console.PriceUpdate, error) {
	s.configuring.Lock()
	defer s.configuring.Unlock()
	next, u, err := s.pricing.Load().update(text, dry)
	if err != nil || dry {
		return u, err
	}
	s.pricing.Store(next)
	s.setPrices(next.catalogue())
	s.log.Info("prices installed", "version", u.Version, "added", u.Added, "changed", u.Changed, "removed", u.Removed)
	return u, nil
}

// setPrices lets a catalogue count from the next request on. The caller holds
// configuring.
func (s *server) setPrices(c *price.Catalogue) {
	g := *s.current.Load()
	g.Prices = c
	s.metrics.Configure(configured(&g), providerNames(&g))
	s.current.Store(&g)
	s.gateway.SetConfig(&g)
}

// deployments are the configured models and the aliases that mean them.
func deployments(g *gateway.Config) []console.Deployment {
	var list []console.Deployment
	for _, m := range configured(g) {
		d := console.Deployment{Provider: m.Provider, Model: m.Model}
		for _, a := range g.Aliases {
			for _, t := range a.Targets {
				model := t.Model
				if m, ok := g.Prices.Find(t.Provider.Name, t.Model); ok {
					model = m.ID
				}
				if t.Provider.Name == m.Provider && model == m.Model {
					d.Aliases = append(d.Aliases, a.Alias)
					break
				}
			}
		}
		list = append(list, d)
	}
	return list
}
