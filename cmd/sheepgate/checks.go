package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sheepgate/sheepgate/internal/config"
	"github.com/sheepgate/sheepgate/internal/state"
	"github.com/sheepgate/sheepgate/internal/store/local"
)

// The doctor's checks of folders, machine and providers.

const (
	littleSpace = 1 << 30   // bytes
	noSpace     = 100 << 20 // SQLite and a segment that is being written need some

	// A request has a connection in and one out. The gateway takes 25,000 at a
	// time; files of the store and idle connections come on top.
	mostRequests = 25_000
	fewRequests  = 1_000
	otherFiles   = 200

	clockSlack  = time.Minute
	connectIn   = 3 * time.Second
	connections = 8 // at a time
)

// builtAfter is a time that lies in the past of every machine whose clock is right.
var builtAfter = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// folders looks at where data and Calls are kept. ok means that there is
// something to look into, or will be.
func (d *doctor) folders(c *config.Config) (ok bool) {
	ok = d.folder("data", c.Data, int64(c.Retention.Disk))
	if folder := filepath.Dir(storeFolder(c)); filepath.Clean(folder) != filepath.Clean(c.Data) {
		ok = d.folder("store", folder, int64(c.Retention.Disk)) && ok
	}
	return ok
}

func (d *doctor) folder(check, dir string, most int64) (ok bool) {
	st, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		above := dir
		for errors.Is(err, fs.ErrNotExist) && filepath.Dir(above) != above {
			above = filepath.Dir(above)
			_, err = os.Stat(above)
		}
		if err := mayWrite(above); err != nil {
			d.fail(check, "make the folder, and give it to the user that serves", "%s is not there, and %s may not be written to: %v", dir, above, err)
			return false
		}
		d.ok(check, "%s is not there yet: the first start makes it", dir)
		return true
	}
	switch {
	case err != nil:
		d.fail(check, "give the folder to the user that serves", "%v", err)
		return false
	case !st.IsDir():
		d.fail(check, "move it away, or change data", "%s is no folder", dir)
		return false
	}
	if err := mayWrite(dir); err != nil {
		d.fail(check, fmt.Sprintf("run this as the user that serves, or give the folder to user %d", os.Getuid()), "%s may not be written to: %v", dir, err)
		return true
	}
	if open := st.Mode().Perm() & 0o077; open != 0 && runtime.GOOS != "windows" {
		d.warn(check, "chmod 700 "+dir, "%s is open to other users of this machine (mode %#o)", dir, st.Mode().Perm())
	} else {
		d.ok(check, "%s may be written to, and by its owner alone", dir)
	}
	d.space(check, dir, most)
	return true
}

func (d *doctor) space(check, dir string, most int64) {
	free, err := freeBytes(dir)
	if err != nil {
		return // this system does not say
	}
	used := size(dir)
	do := "make room, or lower retention.disk"
	switch {
	case free < noSpace:
		d.fail(check, do, "the file system of %s has %s left", dir, megabytes(free))
	case free < littleSpace:
		d.warn(check, do, "the file system of %s has %s left", dir, megabytes(free))
	case most > 0 && used+free < most:
		d.warn(check, do, "%s holds %s and its file system has %s left: it is full before retention.disk (%s) deletes anything", dir, megabytes(used), megabytes(free), config.Size(most))
	default:
		d.ok(check, "%s holds %s, %s are free", dir, megabytes(used), megabytes(free))
	}
}

// size is the bytes below a folder, as far as they can be counted.
func size(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone, or not for us
		}
		if st, err := e.Info(); err == nil && st.Mode().IsRegular() {
			sum += st.Size()
		}
		return nil
	})
	return sum
}

// use compares who has the folder open with who listens.
func (d *doctor) use(c *config.Config, running bool) {
	dir := storeFolder(c)
	locked, err := local.Locked(dir)
	switch {
	case err != nil:
		d.fail("store", "run this as the user that serves", "whether %s is in use cannot be seen: %v", dir, err)
	case locked && !running:
		d.fail("store", "stop it, or give each server a data folder of its own", "%s is in use by a process that does not serve on %s", dir, c.Listen)
	case running && !locked && runtime.GOOS != "windows":
		d.warn("store", "look at its configuration", "the server on %s does not use %s", c.Listen, dir)
	}
}

// store looks at what is kept.
func (d *doctor) store(ctx context.Context, c *config.Config) {
	dir := storeFolder(c)
	look, err := local.Inspect(ctx, dir)
	if err != nil {
		d.fail("store", "run this as the user that serves", "%v", err)
		return
	}
	for _, err := range look.Broken {
		d.fail("store", "restore a backup, or let the server set it aside and go on without it", "%s: it cannot be read: %v", dir, err)
	}
	aside := look.Aside
	if list, err := filepath.Glob(filepath.Join(c.Data, "state.db.*.quarantine")); err == nil {
		for _, f := range list {
			aside = append(aside, filepath.Base(f))
		}
	}
	for _, name := range aside {
		if strings.HasSuffix(name, ".orphan") {
			d.warn("store", "nothing: it is deleted after a week", "%s is a file that the store's manifest does not know", name)
		} else {
			d.warn("store", "repair it, or delete it to settle the matter", "%s could not be read and was set aside", name)
		}
	}
	if len(look.Broken) == 0 {
		d.ok("store", "%s in %s, and a tail of %d writes", count(look.Calls, "call"), count(look.Segments, "segment"), look.Batches)
	}
	now := time.Now().UTC()
	switch {
	case now.Before(builtAfter):
		d.fail("clock", "set the clock", "this machine believes that it is %s", now.Format(time.RFC3339))
	case look.Newest.After(now.Add(clockSlack)):
		d.fail("clock", "set the clock, and keep it with NTP", "the newest call started at %s, and this machine's clock says %s", look.Newest.Format(time.RFC3339), now.Format(time.RFC3339))
	case look.Newest.IsZero():
		d.ok("clock", "%s; there are no calls to compare it with", now.Format(time.RFC3339))
	default:
		d.ok("clock", "%s; the newest call that is known started at %s", now.Format(time.RFC3339), look.Newest.Format(time.RFC3339))
	}
}

// admin sees whether there is an admin key.
func (d *doctor) admin(ctx context.Context, c *config.Config) {
	made, err := state.Inspect(ctx, c.Data)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		d.fail("admin key", "restore a backup, or let the server set state.db aside and make a new admin key", "state.db cannot be read: %v", err)
	case c.AdminKey.Set():
		d.ok("admin key", "the configuration sets it")
	case made:
		d.ok("admin key", "there is one (lost it? sheepgate key reset-admin)")
	default:
		d.ok("admin key", "the first start makes one and shows it once")
	}
}

// audit goes through the audit log of keys.
func (d *doctor) audit(ctx context.Context, c *config.Config) {
	n, err := state.VerifyAudit(ctx, c.Data)
	var broken *state.BrokenAudit
	switch {
	case errors.As(err, &broken):
		d.fail("audit log", "compare it with a backup: somebody changed state.db by hand, or it was damaged", "%v", broken)
	case err != nil && !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil:
		d.fail("audit log", "restore a backup, or let the server set state.db aside", "it cannot be read: %v", err)
	case err == nil:
		d.ok("audit log", "%s, and each follows the one before", entries(n))
	}
}

func entries(n int64) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

// machine looks at limits of processes.
func (d *doctor) machine() {
	if n, err := maxOpenFiles(); err == nil {
		switch most := (max(n, otherFiles) - otherFiles) / 2; {
		case most < fewRequests:
			d.warn("files", "ulimit -n 65536, or LimitNOFILE=65536 in the service", "%d file descriptors are enough for %d requests at a time", n, most)
		default:
			d.ok("files", "%d file descriptors are enough for %d requests at a time", n, min(most, mostRequests))
		}
	}
	if v := d.get("GOMEMLIMIT"); v == "" || v == "off" {
		d.warn("memory", "set it to some 80 % of the memory that the server may have, e.g. GOMEMLIMIT=1GiB", "GOMEMLIMIT is not set: under too much load the server is killed instead of refusing requests")
	} else {
		d.ok("memory", "GOMEMLIMIT is %s", v)
	}
}

// providers connects to each provider, and sends nothing.
func (d *doctor) providers(ctx context.Context, c *config.Config) {
	if d.offline || len(c.Providers) == 0 {
		return
	}
	found := make([]finding, len(c.Providers))
	var wg sync.WaitGroup
	slots := make(chan struct{}, connections)
	for i, p := range c.Providers {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			found[i] = reach(ctx, p)
		})
	}
	wg.Wait()
	d.list = append(d.list, found...)
}

func reach(ctx context.Context, p config.Provider) finding {
	f := finding{Status: "fail", Check: "provider " + p.Name, Do: "check its type and base_url"}
	spec, err := specOf(p)
	var u *url.URL
	if err == nil {
		u, err = url.Parse(spec.BaseURL)
	}
	if err != nil {
		f.What = err.Error()
		return f
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	ctx, cancel := context.WithTimeout(ctx, connectIn)
	defer cancel()
	began := time.Now()
	addrs, err := net.DefaultResolver.LookupHost(ctx, u.Hostname())
	if err != nil {
		f.What, f.Do = fmt.Sprintf("%s has no address: %v", u.Hostname(), err), "check base_url and this machine's DNS"
		return f
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		f.What, f.Do = fmt.Sprintf("%s does not connect: %v", u.Host, err), "check base_url, the firewall, and that the provider is up"
		return f
	}
	conn.Close()
	f.Status, f.What = "ok", fmt.Sprintf("%s (%s) connects in %d ms", u.Host, addrs[0], time.Since(began).Milliseconds())
	return f
}

// prices names what is configured and has no price.
func (d *doctor) prices(c *config.Config) {
	catalogue := d.pricing.catalogue()
	if d.pricing.bad != "" {
		d.warn("prices", "install them again with `sheepgate prices update`", "%s", d.pricing.bad)
	}
	const do = "add rows to prices.overrides, or live with calls counted as unpriced"
	priced := map[string]int{}
	for _, m := range catalogue.Models() {
		priced[m.Provider]++
	}
	n := 0
	var without []string
	for _, p := range c.Providers {
		n += priced[p.Name]
		if spec, err := specOf(p); err == nil && priced[p.Name] == 0 && !spec.Quirks.ReportsCost {
			d.warn("prices", do, "no model of provider %s has a price", p.Name)
			without = append(without, p.Name)
		}
	}
	for _, a := range c.Models {
		for _, t := range a.Use {
			if _, ok := catalogue.Find(t.Provider, t.Model); !ok && !slices.Contains(without, t.Provider) {
				d.warn("prices", do, "%s of the alias %s has no price", t, a.Name)
			}
		}
	}
	if n > 0 {
		d.ok("prices", "%s of the configured providers have a price", count(n, "model"))
	}
}
