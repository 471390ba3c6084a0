package call

// Live is what the data plane knows that no ended Call can tell, as an
// immutable snapshot: the console, metrics and alerts read it and nothing else
// of the gateway.
type Live struct {
	InFlight int64       // requests begun and not ended
	Models   []LiveModel // by deployment, sorted
}

// LiveModel is the state of one deployment: a model at a provider.
type LiveModel struct {
	Provider string
	Model    string
	InFlight int64
}
