package gateway

// Known reports whether a call may name model: an alias, provider/model of a
// configured provider, or a bare name that the catalogue gives to one. If not,
// msg says so and lists names like it.
func (c *Config) Known(model string) (msg string, ok bool) {
	if len(model) <= maxModelName && c.find(model) != nil {
		return "", true
	}
	return c.unknownModel(model).Msg, false
}
