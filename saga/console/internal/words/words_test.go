package words

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var verb = regexp.MustCompile(`%(\[\d+\])?[sd]`)

// arguments returns the numbers of the arguments that a text uses, in order.
func arguments(text string) []string {
	var used []string
	for i, v := range verb.FindAllStringSubmatch(text, -1) {
		number := strings.Trim(v[1], "[]")
		if number == "" {
			number = string(rune('1' + i))
		}
		if !slices.Contains(used, number) {
			used = append(used, number)
		}
	}
	slices.Sort(used)
	return used
}

// Every language has every text, with the same arguments.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	for key, english := range catalogue["en"] {
		for _, lang := range Languages {
			text := catalogue[lang][key]
			if text == "" {
				t.Errorf("%s: no text for %q", lang, key)
				continue
			}
			// A text for one may leave out the number.
			got, want := arguments(text), arguments(english)
			if !slices.Equal(got, want) && !strings.HasSuffix(key, ".one") {
				t.Errorf("%s: %q has the arguments %q, %q were expected", lang, key, got, want)
			}
		}
	}
	for _, lang := range Languages {
		for key := range catalogue[lang] {
			if _, ok := catalogue["en"][key]; !ok {
				t.Errorf("%s: %q has no English text", lang, key)
			}
		}
	}
	// A text in Chinese has Chinese characters, apart from names and numbers.
	for key, text := range catalogue["zh"] {
		letters := verb.ReplaceAllString(text, "")
		if regexp.MustCompile(`[a-z]{3,} [a-z]{3,}`).MatchString(letters) {
			t.Errorf("zh: %q is English: %q", key, text)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, wrong := range []string{"en: no key", "[a]\nxx: a language", "[a]\nen: one\nen: two", "[a]\nno text"} {
		if _, err := parse(wrong); err == nil {
			t.Errorf("%q is accepted", wrong)
		}
	}
	got, err := parse("# a comment\n[a]\nen: \" x \"\nzh: y\n")
	if err != nil || got["en"]["a"] != " x " || got["zh"]["a"] != "y" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	p := For("en")
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -999: "-999"} {
		if got := p.Number(n); got != want {
			t.Errorf("%d: %q", n, got)
		}
	}
	for d, want := range map[time.Duration]string{-1: "<1 ms", 0: "<1 ms", 5 * time.Millisecond: "5 ms", 1500 * time.Millisecond: "1.5 s", 59 * time.Second: "59 s",
		90 * time.Second: "1 min 30 s", time.Hour: "1 h", 25*time.Hour + time.Minute: "1 d 1 h", 24*time.Hour + time.Minute: "1 d", time.Hour + time.Second: "1 h"} {
		if got := p.Duration(d); got != want {
			t.Errorf("%s: %q, %q was expected", d, got, want)
		}
	}
	now := time.Now()
	for d, want := range map[time.Duration]string{0: "just now", 30 * time.Second: "30 s ago", -30 * time.Second: "in 30 s", 150 * time.Second: "2 min ago",
		90 * time.Minute: "1 h 30 min ago", 49 * time.Hour: "2 d ago", 3000 * time.Hour: "125 d ago"} {
		if got := p.Ago(now.Add(-d), now); got != want {
			t.Errorf("%s: %q, %q was expected", d, got, want)
		}
	}
	if got := For("zh").Ago(now.Add(-3*time.Minute), now); got != "3 分前" {
		t.Error(got)
	}
	for share, want := range map[float64]string{0: "0 %", 0.0001: "<0.1 %", 0.05: "5.0 %", 0.5: "50 %", 1: "100 %"} {
		if got := p.Percent(share); got != want {
			t.Errorf("%g: %q", share, got)
		}
	}
	for rate, want := range map[float64]string{0: "0/s", 0.5: "0.50/s", 12.34: "12.3/s", 1234.5: "1234/s"} {
		if got := p.Rate(rate); got != want {
			t.Errorf("%g: %q", rate, got)
		}
	}
	if p.AtLeast(1000, true) != "1,000+" || p.N("list.count", 1) != "1 transaction" || p.N("list.count", 2000) != "2,000 transactions" {
		t.Error("numbers with bounds or nouns")
	}
	if got := p.N("need.kind", 1); got != "A kind is paused" {
		t.Error(got)
	}
}
