package provider

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// openAIError is an error object as OpenAI-shaped upstreams write it.
type openAIError struct {
	Message    string          `json:"message"`
	Type       string          `json:"type"`
	Param      any             `json:"param"`
	Code       json.RawMessage `json:"code"`        // a string; OpenRouter: the HTTP status; or null
	Status     int             `json:"status"`      // Azure, of an error within a 200
	StatusCode int             `json:"status_code"` // Groq, of an error within a stream
	Metadata   struct {
		Raw json.RawMessage `json:"raw"` // OpenRouter: what the provider behind it said
	} `json:"metadata"`
}

// code is the error's code, if it is a word.
func (e *openAIError) code() string {
	s, _ := unquote(e.Code)
	if _, err := strconv.Atoi(s); err == nil {
		return ""
	}
	if len(s) > 64 {
		return ""
	}
	return clip(s)
}

// text is the most telling message there is.
func (e *openAIError) text() string {
	raw, _ := unquote(e.Metadata.Raw)
	if raw == "" || raw == e.Message {
		return e.Message
	}
	var inner struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if lenient([]byte(raw), &inner) == nil {
		raw = inner.Error.Message
	}
	if e.Message == "" || raw == "" {
		return e.Message + raw
	}
	return e.Message + ": " + raw
}

// status is the HTTP status that an error inside a 200 stands for.
func (e *openAIError) status() int {
	code, _ := strconv.Atoi(strings.Trim(string(e.Code), `"`))
	for _, n := range [...]int{e.Status, e.StatusCode, code} {
		if n >= 400 && n < 600 {
			return n
		}
	}
	for _, word := range [...]string{e.code(), e.Type} {
		switch word {
		case "rate_limit_exceeded", "insufficient_quota", "rate_limit_error", "requests", "tokens":
			return http.StatusTooManyRequests
		case "invalid_api_key", "authentication_error", "permission_error", "invalid_authentication":
			return http.StatusUnauthorized
		case "model_not_found", "not_found_error", "NotFoundError":
			return http.StatusNotFound
		case "content_filter", "context_length_exceeded", "invalid_request_error", "BadRequestError", "tool_use_failed":
			return http.StatusBadRequest
		case "overloaded_error", "overloaded", "service_unavailable":
			return http.StatusServiceUnavailable
		}
	}
	return http.StatusBadGateway
}

func (openAI) ReadError(status int, h http.Header, body []byte) *llm.Error {
	in := parseOpenAIError(body)
	e := refusal(status, h)
	e.Msg, e.Code = upstreamMessage(status, in.text()), in.code()
	if s, ok := in.Param.(string); ok {
		e.Param = clip(s)
	}
	if e.Class == llm.ProviderAuth {
		e.Code = "" // invalid_api_key would blame the client's key
	}
	if e.Code == "" {
		e.Code = codeOf(e.Class)
	}
	return e
}

// parseOpenAIError finds the error in whatever came: OpenAI's object; a list
// of one (Gemini's compatible endpoint); {"error":"text"} (Ollama); the object
// without its wrapper (vLLM, Mistral); {"detail":…} (FastAPI). Of anything
// else, such as HTML, the result is empty.
func parseOpenAIError(body []byte) (in openAIError) {
	var o struct {
		Error  json.RawMessage `json:"error"`
		Detail json.RawMessage `json:"detail"`
	}
	var list []json.RawMessage
	if json.Unmarshal(body, &list) == nil && len(list) > 0 {
		body = list[0]
	}
	if lenient(body, &o) != nil {
		return in
	}
	if isError(o.Error) {
		if in.Message, _ = unquote(o.Error); in.Message == "" {
			_ = lenient(o.Error, &in)
		}
		return in
	}
	if _ = lenient(body, &in); in.Message != "" {
		return in
	}
	if in.Message, _ = unquote(o.Detail); in.Message == "" {
		var details []struct {
			Msg string `json:"msg"`
		}
		if lenient(o.Detail, &details) == nil && len(details) > 0 {
			in.Message = details[0].Msg
		}
	}
	return in
}

// inBand is an error object that came with status 200, whole or in a stream.
func (d openAI) inBand(raw []byte) *llm.Error {
	wrapped := append(append([]byte(`{"error":`), raw...), '}')
	in := parseOpenAIError(wrapped)
	return d.ReadError(in.status(), nil, wrapped)
}

// codeOf is the code for an error that names none.
func codeOf(c llm.ErrorClass) string {
	switch c {
	case llm.RateLimited:
		return "rate_limit_exceeded"
	case llm.NotFound:
		return "not_found"
	}
	return string(c)
}

// openAIType is the error type in OpenAI's vocabulary.
func openAIType(e *llm.Error) string {
	switch s := e.HTTPStatus(); {
	case s == 401:
		return "authentication_error"
	case s == 403:
		return "permission_error"
	case s == 429 && e.Class == llm.BudgetExceeded:
		return "insufficient_quota"
	case s == 429:
		return "rate_limit_error"
	case s < 500:
		return "invalid_request_error"
	}
	return "server_error"
}

func (openAI) WriteError(dst []byte, e *llm.Error) []byte {
	var param, code any
	if e.Param != "" {
		param = e.Param
	}
	if e.Code != "" {
		code = e.Code
	} else {
		code = string(e.Class)
	}
	type inner struct {
		Message string `json:"message"`
		Type    string `json:"type"`
		Param   any    `json:"param"`
		Code    any    `json:"code"`
	}
	return appendJSON(dst, struct {
		Error inner `json:"error"`
	}{inner{e.Msg, openAIType(e), param, code}})
}

func (openAI) WriteStreamEnd(dst []byte) []byte { return append(dst, "data: [DONE]\n\n"...) }

func (d openAI) WriteStreamError(dst []byte, e *llm.Error) []byte {
	dst = append(dst, "data: "...)
	return append(d.WriteError(dst, e), "\n\n"...)
}

// appendJSON appends v, whose types always can be written.
func appendJSON(dst []byte, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("provider: " + err.Error())
	}
	return append(dst, b...)
}
