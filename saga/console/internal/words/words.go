// Package words has the texts of the console in every language, and writes numbers, durations
// and times in them.
//
// All texts are in one catalogue, the file words.txt. An entry has a key and the text in each
// language. Texts have the verbs of package fmt. A number that needs a singular has two entries,
// KEY.one and KEY.other; see [Printer.N].
package words

import (
	"bufio"
	_ "embed"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/text/language"
)

//go:embed words.txt
var source string

// Languages are the languages of the catalogue, the default first.
var Languages = []string{"en", "zh"}

// catalogue has the texts by language and key.
var catalogue = must(parse(source))

var matcher = language.NewMatcher([]language.Tag{language.English, language.SimplifiedChinese})

// Match returns the language of the catalogue that fits best. The first of the wishes that names
// a language of the catalogue wins, for example a parameter and a cookie. Otherwise the value of
// an Accept-Language header decides.
func Match(accept string, wishes ...string) string {
	for _, wish := range wishes {
		for _, l := range Languages {
			if wish == l {
				return l
			}
		}
	}
	_, i := language.MatchStrings(matcher, accept)
	return Languages[i]
}

// Printer writes the texts of one language. It is safe for concurrent use.
type Printer struct {
	Language string
	texts    map[string]string
}

// For returns the Printer of a language of the catalogue.
func For(lang string) *Printer { return &Printer{Language: lang, texts: catalogue[lang]} }

// Has reports whether the catalogue has a key.
func (p *Printer) Has(key string) bool { _, ok := p.texts[key]; return ok }

// T returns the text of a key. A key that is missing is a fault of the program: T panics, and a
// test renders every page.
func (p *Printer) T(key string, args ...any) string {
	text, ok := p.texts[key]
	if !ok {
		panic(fmt.Sprintf("words: no text %q in language %s", key, p.Language))
	}
	if len(args) == 0 {
		return text
	}
	return fmt.Sprintf(text, args...)
}

// N returns the text of KEY.one or KEY.other, as n needs it. The first argument of the text is n,
// written as by [Printer.Number]; a text may do without.
func (p *Printer) N(key string, n int, args ...any) string {
	form := ".other"
	if n == 1 && p.Has(key+".one") {
		form = ".one"
	}
	if text := p.T(key + form); !strings.Contains(text, "%") {
		return text
	}
	return p.T(key+form, append([]any{p.Number(n)}, args...)...)
}

// parse reads a catalogue. A line with a key in brackets begins an entry; "en: TEXT" is its text
// in a language. A text that begins or ends with a space is in quotes. Empty lines, and lines that begin with #, are left out.
func parse(text string) (map[string]map[string]string, error) {
	parsed := make(map[string]map[string]string)
	for _, l := range Languages {
		parsed[l] = make(map[string]string)
	}
	key := ""
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			key = line[1 : len(line)-1]
			continue
		}
		lang, text, ok := strings.Cut(line, ": ")
		texts := parsed[lang]
		if !ok || texts == nil || key == "" {
			return nil, fmt.Errorf("words: line %d: %q is neither a key nor a text in a language", n, line)
		}
		if quoted, err := strconv.Unquote(text); err == nil && strings.HasPrefix(text, `"`) {
			text = quoted
		}
		if _, twice := texts[key]; twice {
			return nil, fmt.Errorf("words: line %d: key %q has a second text in language %s", n, key, lang)
		}
		texts[key] = text
	}
	return parsed, lines.Err()
}

func must(parsed map[string]map[string]string, err error) map[string]map[string]string {
	if err != nil {
		panic(err)
	}
	return parsed
}
