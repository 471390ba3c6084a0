package llm

// An Event is one step of a reply, as every dialect can say it.
type Event struct {
	Kind EventKind
}

// EventKind says what an Event holds.
type EventKind uint8
