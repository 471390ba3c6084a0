package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/sheepgate/sheepgate/internal/limit"
	"github.com/sheepgate/sheepgate/internal/llm"
)

// A plain request may be hedged: when the first target has not answered after a
// while the next one is asked as well, and the first good answer is the
// client's. It cuts the slowest answers and costs a second one now and then,
// which is booked: the attempt that lost is one of the Call, canceled, its input
// estimated. Hedges count as retries against their share.

// hedge is who is asked as well, nil if nobody: at is how many of the list have
// been asked, the one that is about to be included.
func (x *exchange) hedge(list []candidate, at int) *candidate {
	if x.hedgeAfter <= 0 || x.in.stream || at >= len(list) || list[at].out() {
		return nil
	}
	return &list[at]
}

// hedged makes an attempt at one target, and at another if the first takes too
// long. both says whether that was so.
func (x *exchange) hedged(ctx context.Context, first, second *candidate, hold *limit.Reservation) (failure *llm.Error, both bool) {
	a := x.newAttempt(ctx, first, hold)
	won := a
	defer x.booked(&won, &failure)
	early, failure := a.begin()
	if failure != nil {
		return failure, false
	}
	wait := time.NewTimer(x.hedgeAfter)
	defer wait.Stop()
	select {
	case r := <-early:
		return a.finish(r), false
	case <-wait.C:
	}
	if !x.g.mayRetry() {
		return a.finish(<-early), false
	}
	defer x.g.retrying.Add(-1)
	hold, refused := x.claim(second)
	if refused != nil {
		return a.finish(<-early), false
	}
	b := x.newAttempt(ctx, second, hold)
	late, failure := b.begin()
	if failure != nil {
		x.book(b, failure)
		x.answeredBy(a)
		return a.finish(<-early), false
	}
	lost, theirs := b, late // unless it turns out otherwise
	var r arrival
	select {
	case r = <-early:
	case r = <-late:
		won, lost, theirs = b, a, early
	}
	if r.good() {
		lost.ctx.end(context.Canceled)
		gone := <-theirs
		lost.headerWait, lost.late = gone.waited, lost == a
		if gone.res != nil {
			gone.res.Body.Close()
		}
		before := x.waited // the client waited for one of them
		x.book(lost, &llm.Error{Class: llm.Canceled, Msg: lost.target.Provider.Name + ": another target was faster"})
		x.waited = before
		x.answeredBy(won)
		failure = won.finish(r)
		x.raced = false // there was no race that the client waits for
		return failure, true
	}
	bad := won.finish(r)
	x.book(won, bad)
	won = lost
	x.answeredBy(won)
	failure = won.finish(<-theirs)
	x.raced = false
	return failure, true
}

// begin sends the attempt's request; what comes of it comes over the channel.
func (a *attempt) begin() (<-chan arrival, *llm.Error) {
	req, err := a.newRequest()
	if err != nil {
		return nil, err
	}
	ch, client := make(chan arrival, 1), a.client()
	go func() {
		r := arrival{err: errPanic}
		defer func() {
			_ = recover() // the other one goes on
			ch <- r
		}()
		r = a.send(client, req)
	}()
	return ch, nil
}

var errPanic = errors.New("the round trip panicked")

func (r *arrival) good() bool { return r.err == nil && r.res.StatusCode == http.StatusOK }

// finish brings what came to the client.
func (a *attempt) finish(r arrival) *llm.Error {
	res, err := a.took(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return a.relay(res)
}
