package llm

import (
	"net/http"
	"time"
)

// An ErrorClass says what kind of failure ended a call, from the operator's
// point of view. The set is public: it is Call.error.class.
type ErrorClass string

// The classes. LimitExceeded and BudgetExceeded are ours, RateLimited is the
// provider's 429.
const (
	InvalidRequest  ErrorClass = "invalid_request"
	Unauthenticated ErrorClass = "unauthenticated"
	Forbidden       ErrorClass = "forbidden"
	NotFound        ErrorClass = "not_found"
	TooLarge        ErrorClass = "too_large"
	LimitExceeded   ErrorClass = "limit_exceeded"
	BudgetExceeded  ErrorClass = "budget_exceeded"
	RateLimited     ErrorClass = "rate_limited"
	ProviderAuth    ErrorClass = "provider_auth"
	UpstreamError   ErrorClass = "upstream_error"
	Overloaded      ErrorClass = "overloaded"
	BadUpstream     ErrorClass = "bad_upstream"
	Timeout         ErrorClass = "timeout"
	Connect         ErrorClass = "connect"
	StreamBroken    ErrorClass = "stream_broken"
	Canceled        ErrorClass = "canceled"
	Internal        ErrorClass = "internal"
)

// StatusClientClosed is the status a Call records when the client left before
// an answer: nginx's 499. Only a client that closed half of its connection sees it.
const StatusClientClosed = 499

// HTTPStatus is the status a client gets for an error of class c that names no
// status of its own.
func (c ErrorClass) HTTPStatus() int {
	switch c {
	case InvalidRequest:
		return http.StatusBadRequest
	case Unauthenticated:
		return http.StatusUnauthorized
	case Forbidden:
		return http.StatusForbidden
	case NotFound:
		return http.StatusNotFound
	case TooLarge:
		return http.StatusRequestEntityTooLarge
	case LimitExceeded, BudgetExceeded, RateLimited:
		return http.StatusTooManyRequests
	case Overloaded:
		return http.StatusServiceUnavailable
	case Timeout:
		return http.StatusGatewayTimeout
	case Canceled:
		return StatusClientClosed
	case Internal:
		return http.StatusInternalServerError
	}
	return http.StatusBadGateway // the provider's fault
}

// Error is a failure on its way to a client. Msg is safe to show and to store;
// Err is the cause, for our log only, and never holds a key, a prompt or a
// completion either.
type Error struct {
	Class      ErrorClass
	Status     int           // HTTP status for the client; 0 means Class.HTTPStatus()
	Code       string        // machine-readable, in OpenAI's vocabulary where it has a word: model_not_found
	Param      string        // the request field at fault, if one is
	Msg        string        // for the client: what is wrong and what to do
	RetryAfter time.Duration // when to try again; 0 if unknown
	Upstream   int           // the provider's HTTP status, 0 if it was not the provider
	Final      bool          // another attempt at the same target would end the same, or do harm again
	Err        error
}

// HTTPStatus is the status the client gets.
func (e *Error) HTTPStatus() int {
	if e.Status != 0 {
		return e.Status
	}
	return e.Class.HTTPStatus()
}

func (e *Error) Error() string {
	s := string(e.Class) + ": " + e.Msg
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }
