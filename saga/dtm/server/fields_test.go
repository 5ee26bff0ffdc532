package server

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"iter"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// The table of fields in the documentation is the one that the code has.
func TestFieldsAreDocumented(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	words := map[string]use{"implemented": implemented, "refused": refused, "ignored": ignored}
	documented := map[string]uses{}
	for columns := range tableOf(file.Doc.Text(), 1+int(numTypes)) {
		var u uses
		for t := range numTypes {
			u[t] = words[columns[1+t]]
		}
		if _, is := words[columns[1]]; is {
			documented[columns[0]] = u
		}
	}
	for name, use := range fields {
		if got, is := documented[name]; !is || got != use {
			t.Errorf("%s: %d in the code, %d in doc.go", name, use, got)
		}
	}
	if len(documented) != len(fields) {
		t.Errorf("doc.go has %d fields, the code %d", len(documented), len(fields))
	}
}

// tableOf yields the preformatted lines of a text that have at least n columns.
func tableOf(text string, n int) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for line := range strings.Lines(text) {
			columns := strings.Fields(line)
			if strings.HasPrefix(line, "\t") && len(columns) >= n && !yield(columns) {
				return
			}
		}
	}
}

// The table of endpoints in the documentation is the one that the code has.
func TestEndpointsAreDocumented(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for columns := range tableOf(file.Doc.Text(), 3) {
		if columns[0] == "GET" || columns[0] == "POST" || columns[0] == "any" {
			documented[columns[1]] = columns[0] + " " + columns[2]
		}
	}
	want := map[string]string{}
	for name, e := range endpoints {
		want[name] = e.method + " implemented"
	}
	for name := range refusedEndpoints {
		want[name] = "any refused"
	}
	if !maps.Equal(documented, want) {
		t.Errorf("doc.go has %v, the code %v", documented, want)
	}
}

// Each refused field is refused with its name, and accepted with what stands for
// nothing.
func TestFieldsAreRefused(t *testing.T) {
	t.Parallel()
	config, err := Config{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	for name, uses := range fields {
		use := uses[tcc]
		if use == implemented {
			continue
		}
		for _, value := range []string{`""`, `0`, `0.0`, `false`, `null`, `[]`, `{}`} {
			if _, err := parseRequest([]byte(`{"gid":"a","trans_type":"tcc","`+name+`":`+value+`}`), config); err != nil {
				t.Errorf("%s: %s: %v", name, value, err)
			}
		}
		for _, value := range []string{`"a"`, `1`, `-1`, `0.5`, `true`, `["a"]`, `{"a":"b"}`, `1e400`} {
			_, err := parseRequest([]byte(`{"gid":"a","trans_type":"tcc","`+name+`":`+value+`}`), config)
			if (use == refused) != (err != nil) || err != nil && !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %s: %v", name, value, err)
			}
		}
	}
}

func TestBodiesAreReadStrictly(t *testing.T) {
	t.Parallel()
	config, err := Config{MaxTimeout: time.Minute}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	const rest = `"trans_type":"tcc"}`
	for body, says := range map[string]string{
		``:                                       "not a JSON object",
		`null`:                                   "not a JSON object",
		`[]`:                                     "not a JSON object",
		`"a"`:                                    "not a JSON object",
		`{`:                                      "not JSON",
		`{"gid":"a"`:                             "not JSON",
		`{"gid":"a",` + rest + `{}`:              "after the JSON",
		`{"gid":"a",` + rest + `x`:               "after the JSON",
		`{"gid":"a","gid":"b",` + rest:           "twice",
		`{"gid":"a","GID":"b",` + rest:           "twice",
		`{"gid":"a","G\u0049D":"b",` + rest:      "twice",
		`{"GID":"a",` + rest:                     "is written gid",
		`{"gid":"a","Wait_Result":true,` + rest:  "is written wait_result",
		`{"gid":"a","tranſ_type":"x",` + rest:    "is written trans_type",
		`{"gid":"a","x":1,"X":2,` + rest:         "twice",
		`{"gid":1,` + rest:                       "gid is 1",
		`{"gid":"a","wait_result":"yes",` + rest: "wait_result is",
		`{"gid":"a","timeout_to_fail":1.5,` + rest:                                               "timeout_to_fail is",
		`{"gid":"a","timeout_to_fail":61,` + rest:                                                "between 0 and 60",
		`{"gid":"a","timeout_to_fail":-1,` + rest:                                                "between",
		`{"gid":"a","timeout_to_fail":9223372036854775807,` + rest:                               "between",
		`{"gid":"a","timeout_to_fail":1e99,` + rest:                                              "timeout_to_fail is",
		`{"gid":"a","protocol":"grpc",` + rest:                                                   "protocol",
		`{"gid":"a;b",` + rest:                                                                   "semicolon",
		`{"gid":"a b",` + rest:                                                                   "printable",
		`{"gid":"ä",` + rest:                                                                     "printable",
		"{\"gid\":\"a\xff\"," + rest:                                                             "UTF-8",
		`{"gid":"a","data":"\ud800",` + rest:                                                     "half of a character",
		`{"gid":"a","data":"\ud800\ud800",` + rest:                                               "half of a character",
		`{"gid":"a","data":"\udc00",` + rest:                                                     "half of a character",
		`{"gid":"a","data":"\\\ud800x",` + rest:                                                  "half of a character",
		`{` + strings.Repeat(" ", 10) + many(65) + rest:                                          "more than 64",
		`{"gid":"a","x":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `,` + rest: "not JSON",
	} {
		if _, err := parseRequest([]byte(body), config); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.100s: %v, want %q", body, err, says)
		}
	}
	in, err := parseRequest([]byte(` {"gid":"a","unknown":{"a":1},"data":"\\ud800 \ud83d\ude00","protocol":"http","timeout_to_fail":60,`+rest+"\n"), config)
	if err != nil || in.branch.Data != `\ud800 😀` || in.timeout != time.Minute {
		t.Errorf("%+v, %v", in, err)
	}
	if in, err := parseRequest([]byte(`{"gid":"a",`+rest), config); err != nil || in.timeout != 35*time.Second {
		t.Errorf("%+v, %v", in, err)
	}
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`"f` + strings.Repeat("x", i) + `":1,`)
	}
	return b.String()
}

// A string is found to hold half a character if, and only if, encoding/json
// replaces something in it.
func TestLoneSurrogates(t *testing.T) {
	t.Parallel()
	pieces := []string{`\ud800`, `\udc00`, `\uD83D`, `\uDE00`, `\\`, `\"`, `\n`, `u`, `d800`, `x`, `\u0041`, `\ufffd`, `\u005c`}
	for range 100_000 {
		var text strings.Builder
		for range rand.IntN(6) {
			text.WriteString(pieces[rand.IntN(len(pieces))])
		}
		var s string
		if err := json.Unmarshal([]byte(`"`+text.String()+`"`), &s); err != nil {
			t.Fatalf("%s: %v", text.String(), err)
		}
		want := strings.Count(s, "\ufffd") > strings.Count(strings.ReplaceAll(text.String(), `\\`, ""), `\ufffd`)
		if got := hasLoneSurrogate([]byte(`"` + text.String() + `"`)); got != want {
			t.Fatalf("%s: %v, want %v", text.String(), got, want)
		}
	}
}

// No two entries have the same kind, and each is one that the engine takes.
func FuzzKinds(f *testing.F) {
	f.Add("stock:8080", "stock_3a8080")
	f.Add("[::1]:80/x", "none-")
	f.Add(strings.Repeat("x", 60), strings.Repeat("x", 61))
	f.Add(strings.Repeat("/", 30), "dtm")
	f.Fuzz(func(t *testing.T, a, b string) {
		ka, kb := kindOf("dtma", a), kindOf("dtma", b)
		if (a == b) != (ka == kb) || ka == noTarget.action || ka == kindOf("dtm", b) || len(ka) > 64 || strings.Trim(ka, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
			t.Errorf("%q %q, %q %q", a, ka, b, kb)
		}
	})
}

func TestBadHosts(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{"", "/", "/x", "http://stock", "user@stock", "stock?a", "stock?", "stock#a", "stock/..", "stock/a/../b", "stock/.", "stock/%2e%2e",
		"stock/a%2fb", "stock/a b", "ſtock", "sto ck", "stock:80:80", "::1", "[::1", "stock/a;b/..;c", `stock\a`, `stock/a\b`} {
		if got, err := parseTargets([]string{entry}); err == nil {
			t.Errorf("%q: %+v", entry, got)
		}
	}
	for _, entries := range [][]string{{"a", "A"}, {"a/b", "a/b/"}, {"a", "a/"}} {
		if got, err := parseTargets(entries); err == nil {
			t.Errorf("%q: %+v", entries, got)
		}
	}
}

// A body that is accepted means the same to encoding/json.
func FuzzBodies(f *testing.F) {
	f.Add([]byte(`{"gid":"a","trans_type":"tcc","data":"\ud83d\ude00","wait_result":true,"x":[{"gid":"b"}]}`))
	f.Add([]byte(`{"gid":"a","trans_type":"tcc","Gid":"b"}`))
	f.Add([]byte(`{"gid":"a","trans_type":"tcc","steps": [ ],"concurrent":false,"branch_headers":{},"retry_limit":-0e5}`))
	config, err := Config{}.withDefaults()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		in, err := parseRequest(body, config)
		if err != nil {
			return
		}
		var plain struct {
			GID     string            `json:"gid"`
			Type    string            `json:"trans_type"`
			Data    string            `json:"data"`
			Wait    bool              `json:"wait_result"`
			Steps   []any             `json:"steps"`
			Headers map[string]string `json:"branch_headers"`
		}
		var all map[string]any
		if err := json.Unmarshal(body, &all); err != nil {
			t.Fatal(err)
		}
		if json.Unmarshal(body, &plain) != nil { // what is refused may be empty in any way
			return
		}
		if plain.GID != in.gid || plain.Type != in.transType.String() || plain.Data != in.branch.Data || plain.Wait != in.waitResult || len(plain.Steps) > 0 || !maps.Equal(plain.Headers, in.settings.Headers) {
			t.Errorf("%s: %+v, %+v", body, in, plain)
		}
	})
}
