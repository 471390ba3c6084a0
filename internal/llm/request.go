package llm

// A Request is what a model is asked, as every dialect can say it. It is made
// only where client and upstream speak different dialects.
type Request struct {
	Model  string
	Stream bool
}
