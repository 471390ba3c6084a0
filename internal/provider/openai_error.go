package provider

import (
	"encoding/json"
	"net/http"

	"github.com/sheepgate/sheepgate/internal/llm"
)

// openAIError is an error object as OpenAI-shaped upstreams write it: code may
// be a string, a number (OpenRouter) or null.
type openAIError struct {
	Message string          `json:"message"`
	Type    string          `json:"type"`
	Param   any             `json:"param"`
	Code    json.RawMessage `json:"code"`
	Status  int             `json:"status"` // Azure, of an error within a 200
}

func (e *openAIError) code() string {
	if s, ok := unquote(e.Code); ok {
		return s
	}
	if string(e.Code) == "null" {
		return ""
	}
	return clip(string(e.Code))
}

// status is the HTTP status that an error inside a 200 stands for.
func (e *openAIError) status() int {
	if e.Status >= 400 && e.Status < 600 {
		return e.Status
	}
	var n int
	if json.Unmarshal(e.Code, &n) == nil && n >= 400 && n < 600 {
		return n
	}
	switch e.code() {
	case "rate_limit_exceeded", "insufficient_quota":
		return 429
	case "invalid_api_key":
		return 401
	case "model_not_found":
		return 404
	case "content_filter":
		return 400
	}
	switch e.Type {
	case "invalid_request_error":
		return 400
	case "authentication_error", "permission_error":
		return 401
	case "rate_limit_error":
		return 429
	case "overloaded_error":
		return 503
	}
	return 502
}

func (openAI) ReadError(status int, h http.Header, body []byte) *llm.Error {
	e := refusal(status, h)
	var o struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"` // vLLM, Mistral
		Detail  any             `json:"detail"`
	}
	var in openAIError
	if json.Unmarshal(body, &o) == nil {
		if json.Unmarshal(o.Error, &in) != nil {
			in.Message, _ = unquote(o.Error) // {"error":"text"}
		}
		if in.Message == "" {
			in.Message = o.Message
		}
		if s, ok := o.Detail.(string); ok && in.Message == "" {
			in.Message = s
		}
	}
	e.Msg, e.Code = upstreamMessage(status, in.Message), in.code()
	e.Param, _ = in.Param.(string)
	if e.Code == "" {
		e.Code = codeOf(e.Class)
	}
	return e
}

// inBand is an error object that came with status 200, whole or in a stream.
func (d openAI) inBand(raw json.RawMessage) *llm.Error {
	var in openAIError
	if json.Unmarshal(raw, &in) != nil {
		in.Message, _ = unquote(raw)
	}
	e := d.ReadError(in.status(), nil, append(append([]byte(`{"error":`), raw...), '}'))
	return e
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
