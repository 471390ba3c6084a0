package config

// ParseCount reads a number as the file has it: 60, 300k or 1.5M.
func ParseCount(text string) (c Count, err error) {
	err = c.parse(text)
	return c, err
}

// ParseDuration reads a duration as the file has it: 5s, 10m, 1h30m or 90d.
func ParseDuration(text string) (d Duration, err error) {
	err = d.parse(text)
	return d, err
}
