package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga/dtm/server"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// newBankFor is a bank whose branches are those of a busi.
func newBankFor(t *testing.T, at *busi, change ...func(*server.Config, *embedded.Config)) *bank {
	t.Helper()
	hosts := func(config *server.Config, _ *embedded.Config) { config.Hosts = []string{at.host()} }
	return newBank(t, sqltest.Open(t, "sqlite"), append([]func(*server.Config, *embedded.Config){hosts}, change...)...)
}

// Answers that count as a Confirm that is done, and answers that do not.
func TestAnswersOfBranches(t *testing.T) {
	t.Parallel()
	at := newBusi(t)
	b := newBankFor(t, at)
	welcome := "<!DOCTYPE html><html><head><title>Welcome to nginx!</title></head><body>SUCCESS</body></html>"
	for i, c := range []struct {
		name string
		answer
		says string // of the failed attempt; empty if it is done
	}{
		{"DTM's", answer{200, "application/json", `{"dtm_result":"SUCCESS"}`}, ""},
		{"empty", answer{200, "", ""}, ""},
		{"spaces", answer{200, "text/plain", " \r\n"}, ""},
		{"JSON", answer{200, "application/json", `{"balance":3}`}, ""},
		{"JSON from PHP", answer{200, "text/html; charset=UTF-8", `{"dtm_result":"SUCCESS"}`}, ""},
		{"null", answer{200, "application/json", "null"}, ""},
		{"a word", answer{200, "text/plain", "SUCCESS\n"}, ""},
		{"nginx", answer{200, "text/html", welcome}, "not as a branch does"},
		{"HTML as JSON", answer{200, "application/json", welcome}, "not as a branch does"},
		{"HTML further down", answer{200, "text/html", "SUCCESS\n" + welcome}, "not as a branch does"},
		{"XML", answer{200, "application/xml", "<ok>SUCCESS</ok>"}, "not as a branch does"},
		{"a text", answer{200, "text/plain", "It works!"}, "not as a branch does"},
		{"half a JSON", answer{200, "application/json", `{"a":`}, "not as a branch does"},
		{"large", answer{200, "application/json", `"` + strings.Repeat("x", 2<<20) + `"`}, "more than"},
		{"201", answer{201, "application/json", `{"dtm_result":"SUCCESS"}`}, "201"},
		{"204", answer{204, "", ""}, "204"},
		{"redirect", answer{302, "", ""}, "redirect"},
		{"refused in words", answer{200, "application/json", `{"dtm_result":"FAILURE"}`}, "cannot be refused"},
		{"refused", answer{409, "application/json", `{"message":"no"}`}, "cannot be refused"},
		{"ongoing in words", answer{200, "application/json", `{"dtm_result":"ONGOING"}`}, "not at its end"},
		{"ongoing", answer{425, "", ""}, "not at its end"},
		{"500", answer{500, "text/plain", "oops"}, "oops"},
	} {
		at.mu.Lock()
		at.once = []answer{c.answer}
		at.mu.Unlock()
		gid := fmt.Sprint("answer-", i)
		b.says(200, "SUCCESS")(b.post("prepare", `{"gid":"`+gid+`","trans_type":"tcc"}`))
		b.says(200, "SUCCESS")(b.post("registerBranch", b.registration(gid, "01", at.URL+"/x")))
		b.says(200, "SUCCESS")(b.post("submit", `{"gid":"`+gid+`","trans_type":"tcc"}`))
		b.reaches(gid, "succeed")
		found, err := b.orch.Lookup(t.Context(), gid)
		sagatest.Must(t, err)
		attempts := found.Branches[0].Attempts
		if c.says == "" && len(attempts) > 0 || c.says != "" && (len(attempts) != 1 || !strings.Contains(attempts[0].Error, c.says)) {
			t.Errorf("%s: %.300v, want %q", c.name, attempts, c.says)
		}
	}
}

// A branch that answers that it has done the opposite is for a person to look at.
func TestAConflict(t *testing.T) {
	t.Parallel()
	at := newBusi(t)
	b := newBankFor(t, at, func(_ *server.Config, engine *embedded.Config) { engine.AttentionAttempts = 1 << 20 })
	at.answers(500, `{"conflict":true,"message":"it is cancelled"}`)
	b.says(200, "SUCCESS")(b.post("prepare", `{"gid":"a","trans_type":"tcc"}`))
	b.says(200, "SUCCESS")(b.post("registerBranch", b.registration("a", "01", at.URL+"/x")))
	b.says(200, "SUCCESS")(b.post("submit", `{"gid":"a","trans_type":"tcc"}`))
	sagatest.Eventually(t, "it is raised to attention", func() bool {
		found, err := b.orch.Lookup(t.Context(), "a")
		sagatest.Must(t, err)
		return strings.Contains(found.Attention, "it is cancelled")
	})
}

// A call carries the branch's own parameters as they were sent, and its data.
func TestWhatABranchIsAsked(t *testing.T) {
	t.Parallel()
	at := newBusi(t)
	b := newBankFor(t, at)
	for i, c := range []struct{ path, data, asks, method string }{
		{"/x", `{\"a\":1}`, "/x?branch_id=01&gid=%s&op=confirm&trans_type=tcc", "POST"},
		{"/x?a=1;b=2&c=%zz&d", `1`, "/x?a=1;b=2&c=%%zz&d&branch_id=01&gid=%s&op=confirm&trans_type=tcc", "POST"},
		{"/a%2Fb;v=1/c?z=1&a=2", `1`, "/a%%2Fb;v=1/c?z=1&a=2&branch_id=01&gid=%s&op=confirm&trans_type=tcc", "POST"},
		{"/x", "", "/x?branch_id=01&gid=%s&op=confirm&trans_type=tcc", "GET"},
		{"/x", `\u0000\ud83d\ude00\\ud800`, "/x?branch_id=01&gid=%s&op=confirm&trans_type=tcc", "POST"},
	} {
		gid := fmt.Sprintf("asked-%d", i)
		b.says(200, "SUCCESS")(b.post("prepare", `{"gid":"`+gid+`","trans_type":"tcc"}`))
		b.says(200, "SUCCESS")(b.post("registerBranch", fmt.Sprintf(`{"gid":%q,"trans_type":"tcc","branch_id":"01","data":"%s","confirm":"%s"}`, gid, c.data, at.URL+c.path)))
		b.says(200, "SUCCESS")(b.post("submit", `{"gid":"`+gid+`","trans_type":"tcc","wait_result":true}`))
		all := at.heard()
		last := all[len(all)-1]
		if want := fmt.Sprintf(c.asks, gid); last.uri != want || last.method != c.method {
			t.Errorf("%s %s, want %s %s", last.method, last.uri, c.method, want)
		}
		if i == 4 && last.body != "\x00😀\\ud800" {
			t.Errorf("%q", last.body)
		}
	}
}

// URLs that reach elsewhere than they seem to, or speak for another call.
func TestURLsOfBranches(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"), func(config *server.Config, _ *embedded.Config) {
		config.Hosts = []string{"stock:8080", "Gate/pay", "gate/pay/sub", "gate/x", "[::1]:80/y/"}
	})
	b.says(200, "SUCCESS")(b.post("prepare", `{"gid":"u","trans_type":"tcc"}`))
	n := 0
	register := func(confirm, cancel string) (int, string) {
		n++
		return b.post("registerBranch", fmt.Sprintf(`{"gid":"u","trans_type":"tcc","branch_id":"%02d","confirm":%q,"cancel":%q}`, n, confirm, cancel))
	}
	for address, kind := range map[string]string{
		"http://stock:8080/any/../where%2f": "dtm.stock_3a8080",
		"https://STOCK:8080?a=b":            "dtm.stock_3a8080",
		"http://gate/pay":                   "dtm.gate_2fpay",
		"http://gate/pay/confirm;v=1?x=1;y": "dtm.gate_2fpay",
		"http://GATE/pay/sub/a":             "dtm.gate_2fpay_2fsub",
		"http://gate/pay/subway":            "dtm.gate_2fpay",
		"http://[::1]:80/y/z":               "dtm._5b_3a_3a1_5d_3a80_2fy",
		"":                                  "dtm-none",
	} {
		b.says(200, "SUCCESS")(register(address, ""))
		found, err := b.orch.Lookup(t.Context(), "u")
		sagatest.Must(t, err)
		if got := found.Branches[n-1].Kind; got != kind {
			t.Errorf("%q: %s, want %s", address, got, kind)
		}
	}
	for address, says := range map[string]string{
		"http://gate/":                                   "path",
		"http://gate/payment":                            "path",
		"http://gate/PAY/x":                              "path",
		"http://gate/pay/../admin":                       "path",
		"http://gate/pay/..;/admin":                      "path",
		"http://gate/pay/..;a=b/admin":                   "path",
		"http://gate/pay/%2e%2e/admin":                   "path",
		"http://gate/pay/.%2E/admin":                     "path",
		"http://gate/pay/./x":                            "path",
		"http://gate/pay/..%20/admin":                    "path",
		"http://gate/pay%2fadmin":                        "path",
		"http://gate/pay/%2F../admin":                    "path",
		"http://gate/pay/a%2fb":                          "path",
		"http://gate/pay/%5c..%5cadmin":                  "path",
		"http://gate/pay/%252e%252e/admin":               "path",
		"http://gate/pay/%00/admin":                      "path",
		"http://gate/pay/%0d%0a":                         "path",
		"http://gate/pay/%c0%ae%c0%ae/admin":             "path",
		"http://gate:80/pay/x":                           "host",
		"http://gate.evil/pay/x":                         "host",
		"http://gate./pay/x":                             "host",
		"http://ſtock:8080/x":                            "ASCII",
		"http://stock:8080@evil/x":                       "user",
		"http://evil#stock:8080":                         "fragment",
		"http://stock:8080/x#y":                          "fragment",
		"http://stock:8080\\@evil/":                      "URL",
		"//stock:8080/x":                                 "http://",
		"http:stock:8080/x":                              "http://",
		"http:///x":                                      "http://",
		"gopher://stock:8080/x":                          "http://",
		"javascript:alert(1)":                            "http://",
		"http://stock:8080/x y":                          "spaces",
		"http://stock:8080/x?a=b HTTP/1.1":               "spaces",
		"http://stock:8080/x\r\nHost: evil":              "spaces",
		"http://stock:8080/x?gid=other":                  "gid",
		"http://stock:8080/x?a=1&GID=other":              "gid",
		"http://stock:8080/x?a=1;op=cancel":              "op",
		"http://stock:8080/x?%6fp=cancel":                "op",
		"http://stock:8080/x?caller=other":               "caller",
		"http://stock:8080/x?branch_id":                  "branch_id",
		"http://stock:8080/x?trans_type=saga":            "trans_type",
		"http://stock:8080/x?a=b&%20gid=other":           "gid",
		"http://stock:8080/" + strings.Repeat("x", 2048): "2048",
	} {
		for _, urls := range [][2]string{{address, ""}, {"", address}} {
			if status, text := register(urls[0], urls[1]); status != http.StatusBadRequest || !strings.Contains(text, says) {
				t.Errorf("%q: %d %s, want %q", urls, status, text, says)
			}
		}
	}
	b.says(400, "different places")(register("http://stock:8080/x", "http://gate/pay/x"))
	b.says(400, "different places")(register("http://gate/x/a", "http://gate/pay/x"))
}
