package sim

import (
	"fmt"
	"math/rand/v2"
	"net/http"
)

// A failure is a refusal, before a wire puts it into its words.
type failure struct {
	status int
	kind   failureKind
	msg    string
	wait   int // seconds until it makes sense to try again; 0 if not said
}

type failureKind int

const (
	badRequest failureKind = iota
	badKey
	noModel
	rateLimited
	internal
	overloaded
)

func failureOf(status int, m *Model, r *rand.Rand) failure {
	f := failure{status: status}
	switch status {
	case http.StatusTooManyRequests:
		f.kind, f.wait = rateLimited, 1+r.IntN(4)
		f.msg = fmt.Sprintf("Rate limit reached for %s on tokens per minute (TPM). Please try again in %ds.", m.Name, f.wait)
	case http.StatusInternalServerError:
		f.kind, f.msg = internal, "The server had an error while processing your request. Sorry about that!"
	default:
		f.kind, f.msg = overloaded, "The model is overloaded. Please try again later."
	}
	return f
}
