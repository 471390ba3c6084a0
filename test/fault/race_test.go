//go:build race

package fault

func init() { raceEnabled = true }
