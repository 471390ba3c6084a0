package console

import (
	"math"
	"os"
	"regexp"
	"strconv"
	"testing"
)

// Charts can be read with each of the three kinds of colour blindness: any two
// colours of a set differ, and each stands out from the card behind it.
func TestPalette(t *testing.T) {
	text, err := os.ReadFile("ui/style.css")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile(`(?s):root(?:\[data-theme="dark"\])? \{(.*?)\n\}`).FindAllSubmatch(text, 2)
	if len(blocks) != 2 {
		t.Fatal("no two themes")
	}
	sets := [][]string{
		{"m0", "m1", "m2", "m3", "m4", "m5", "m-rest"},
		{"c-2xx", "c-4xx", "c-429", "c-5xx", "c-canceled"},
		{"c-p50", "c-p95", "c-p99"},
		{"c-in", "c-out"},
	}
	for i, theme := range []string{"light", "dark"} {
		colours := map[string][3]float64{}
		for _, m := range regexp.MustCompile(`--([\w-]+): #([0-9a-f]{6});`).FindAllSubmatch(blocks[i][1], -1) {
			n, _ := strconv.ParseUint(string(m[2]), 16, 32) // the pattern is hexadecimal
			colours[string(m[1])] = [3]float64{linear(n >> 16), linear(n >> 8 & 255), linear(n & 255)}
		}
		contrast := func(a, b string, want float64) {
			t.Helper()
			x, y := luminance(colours[a]), luminance(colours[b])
			if got := (max(x, y) + 0.05) / (min(x, y) + 0.05); got < want {
				t.Errorf("%s: %s on %s has a contrast of %.2f, want %.1f", theme, a, b, got, want)
			}
		}
		for _, ink := range []string{"text", "muted", "link", "bad", "good", "warn"} {
			contrast(ink, "card", 4.5)
			contrast(ink, "bg", 4.5)
		}
		contrast("on-brand", "brand", 4.5)
		contrast("focus", "card", 3)
		for _, set := range sets {
			for j, a := range set {
				contrast(a, "card", 3)
				for _, b := range set[:j] {
					for eyes, matrix := range sights {
						if got := distance100(see(colours[a], matrix), see(colours[b], matrix)); got < 7.5 {
							t.Errorf("%s, %s: %s and %s are %.1f apart, want 7.5", theme, eyes, a, b, got)
						}
					}
				}
			}
		}
	}
}

// What eyes see of linear RGB. The three kinds of colour blindness are those of
// Machado, Oliveira and Fernandes (2009), severity 1.
var sights = map[string][3][3]float64{
	"ordinary":     {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}},
	"protanopia":   {{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}},
	"deuteranopia": {{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}},
	"tritanopia":   {{1.255528, -0.076749, -0.178779}, {-0.078411, 0.930809, 0.147602}, {0.004733, 0.691367, 0.303900}},
}

func linear(b uint64) float64 {
	c := float64(b) / 255
	if c <= 0.04045 {
		return c / 12.92
	}
	return math.Pow((c+0.055)/1.055, 2.4)
}

func luminance(c [3]float64) float64 { return 0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2] }

func see(c [3]float64, m [3][3]float64) (r [3]float64) {
	for i := range r {
		r[i] = min(1, max(0, m[i][0]*c[0]+m[i][1]*c[1]+m[i][2]*c[2]))
	}
	return r
}

// distance100 is a hundred times that in Oklab (Ottosson 2020).
func distance100(a, b [3]float64) float64 {
	lab := func(c [3]float64) [3]float64 {
		l := math.Cbrt(0.4122214708*c[0] + 0.5363325363*c[1] + 0.0514459929*c[2])
		m := math.Cbrt(0.2119034982*c[0] + 0.6806995451*c[1] + 0.1073969566*c[2])
		s := math.Cbrt(0.0883024619*c[0] + 0.2817188376*c[1] + 0.6299787005*c[2])
		return [3]float64{0.2104542553*l + 0.7936177850*m - 0.0040720468*s, 1.9779984951*l - 2.4285922050*m + 0.4505937099*s, 0.0259040371*l + 0.7827717662*m - 0.8086757660*s}
	}
	x, y := lab(a), lab(b)
	return 100 * math.Sqrt((x[0]-y[0])*(x[0]-y[0])+(x[1]-y[1])*(x[1]-y[1])+(x[2]-y[2])*(x[2]-y[2]))
}
