package console_test

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/tccsaga/tccsaga/saga/console"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

var (
	action = regexp.MustCompile(`(?s)\{\{.*?\}\}`)
	tag    = regexp.MustCompile(`(?s)<[^>]*>`)
	spoken = regexp.MustCompile(`(?s)\b(title|aria-label|placeholder|alt)="([^"]*)"`)
)

// Every text of a template is in the catalogue: a template has no words of its own.
func TestTemplatesHaveNoWords(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(os.DirFS("templates"), "*.html")
	sagatest.Must(t, err)
	if len(files) < 10 {
		t.Fatalf("%d templates", len(files))
	}
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join("templates", file))
		sagatest.Must(t, err)
		bare := action.ReplaceAllString(string(text), "")
		for _, attribute := range spoken.FindAllStringSubmatch(bare, -1) {
			if strings.ContainsFunc(attribute[2], unicode.IsLetter) {
				t.Errorf("%s: the attribute %s=%q has words", file, attribute[1], attribute[2])
			}
		}
		for word := range strings.FieldsSeq(tag.ReplaceAllString(bare, " ")) {
			if strings.ContainsFunc(word, unicode.IsLetter) {
				t.Errorf("%s: the word %q is not in the catalogue", file, word)
			}
		}
	}
}

// The language is the one that was asked for, then the one that was chosen before, then one that
// the browser accepts.
func TestLanguage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	for _, c := range []struct{ accept, query, cookie, want string }{
		{"", "", "", "en"}, {"de", "", "", "en"}, {"zh-CN,zh;q=0.9,en;q=0.8", "", "", "zh-Hans"}, {"de, zh-TW;q=0.5", "", "", "zh-Hans"}, {"en, zh", "", "", "en"},
		{"en", "?lang=zh", "", "zh-Hans"}, {"zh", "?lang=en", "", "en"}, {"en", "", "zh", "zh-Hans"}, {"zh", "?lang=xx", "", "zh-Hans"},
		{"zh", "", "xx", "zh-Hans"}, {"%%%", "", "", "en"},
	} {
		s := serve(t, w.engine.Operations(), console.Config{})
		s.header.Set("Accept-Language", c.accept)
		if c.cookie != "" {
			s.header.Set("Cookie", "tccsaga_console_lang="+c.cookie)
		}
		a := s.get("/console/"+c.query).want(t, http.StatusOK, `<html lang="`+c.want+`"`)
		if set := len(a.Cookies()) > 0; set != (c.query == "?lang=zh" || c.query == "?lang=en") {
			t.Errorf("%+v: the language is kept: %t", c, set)
		}
	}
}

// In Chinese, no English sentence of the catalogue is left on a page.
func TestChinese(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	s := serve(t, w.engine.Operations(), console.Config{Authorize: as("ann")})
	s.header.Set("Accept-Language", "zh")
	for _, gid := range []string{"done-1", "rejected-1", "failing-1", "open-1", "conflict-1"} {
		a := s.get("/console/transaction?gid="+gid).want(t, http.StatusOK, "时间线", "分支及其屏障行")
		for _, english := range []string{"would be refused", "it is ", "The ", "branch ", "Decided"} {
			if strings.Contains(tag.ReplaceAllString(a.body, " "), english) && !strings.Contains("conflict: branch ", english) {
				t.Errorf("%s: the page has %q", gid, english)
			}
		}
	}
}
