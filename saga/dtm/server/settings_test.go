package server_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga/dtm/server"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// The headers of a transaction are in each call of its branches, also if the engine has
// only the log to know them.
func TestBranchHeaders(t *testing.T) {
	t.Parallel()
	at := newBusi(t)
	b := newBankFor(t, at)
	const prepare = `{"gid":"a","trans_type":"tcc","branch_headers":{"test_header":"x","Authorization":"Bearer y"}}`
	b.says(200, "SUCCESS")(b.post("prepare", prepare))
	b.says(200, "SUCCESS")(b.post("prepare", prepare))
	b.says(409, "different plan")(b.post("prepare", strings.Replace(prepare, "x", "z", 1)))
	b.says(200, "SUCCESS")(b.post("registerBranch", b.registration("a", "01", at.URL+"/x")))
	b.says(200, "SUCCESS")(b.post("registerBranch", b.registration("a", "01", at.URL+"/x"))) // again
	b.says(200, "SUCCESS")(b.post("submit", `{"gid":"a","trans_type":"tcc","wait_result":true}`))
	all := at.heard()
	if len(all) != 1 || all[0].header.Get("Test_header") != "x" || all[0].header.Get("Authorization") != "Bearer y" || all[0].header.Get("Content-Type") != "application/json" {
		t.Errorf("%+v", all)
	}
	if q := b.query("a"); len(q.Branches) != 2 || q.Branches[0].BranchID != "01" {
		t.Errorf("%+v", q)
	}
	// Those of one are not in the calls of another one.
	b.says(200, "SUCCESS")(b.post("prepare", `{"gid":"b","trans_type":"tcc"}`))
	b.says(200, "SUCCESS")(b.post("registerBranch", b.registration("b", "01", at.URL+"/x")))
	b.says(200, "SUCCESS")(b.post("submit", `{"gid":"b","trans_type":"tcc","wait_result":true}`))
	if all := at.heard(); len(all) != 2 || all[1].header.Get("Test_header")+all[1].header.Get("Authorization") != "" {
		t.Errorf("%+v", all[1:])
	}
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"))
	var many strings.Builder
	for i := range 33 {
		fmt.Fprintf(&many, `,"h%d":"x"`, i)
	}
	for settings, says := range map[string]string{
		`"branch_headers":{"Host":"x"}`:                              "Host",
		`"branch_headers":{"content-length":"1"}`:                    "Content-Length",
		`"branch_headers":{"transfer-encoding":"chunked"}`:           "Transfer-Encoding",
		`"branch_headers":{"Proxy-Authorization":"x"}`:               "Proxy-Authorization",
		`"branch_headers":{"a b":"x"}`:                               "not the name",
		`"branch_headers":{"":"x"}`:                                  "not the name",
		`"branch_headers":{"a\r\nb":"x"}`:                            "not the name",
		`"branch_headers":{"a":"x\r\nHost: y"}`:                      "printable",
		`"branch_headers":{"a":"ä"}`:                                 "printable",
		`"branch_headers":{"a":1}`:                                   "branch_headers is",
		`"branch_headers":["a"]`:                                     "branch_headers is",
		`"branch_headers":{` + many.String()[1:] + `}`:               "33 headers",
		`"branch_headers":{"a":"` + strings.Repeat("x", 4096) + `"}`: "4097 bytes",
		`"request_timeout":-1`:                                       "request_timeout",
		`"request_timeout":86401`:                                    "request_timeout",
		`"retry_interval":-1`:                                        "retry_interval",
		`"retry_interval":"1"`:                                       "retry_interval",
		`"retry_limit":3`:                                            "retry_limit is not supported for the trans_type tcc",
		`"custom_data":"{}"`:                                         "custom_data is not supported for the trans_type tcc",
		`"url":"http://a/b"`:                                         "url is not supported for the trans_type tcc",
		`"steps":[{}]`:                                               "steps is not supported",
		`"retry_count":1`:                                            "retry_count is not supported by this server",
	} {
		b.says(400, says)(b.post("prepare", `{"gid":"a","trans_type":"tcc",`+settings+`}`))
	}
	b.says(200, "null")(b.get("query?gid=a"))
}

// A call takes at most the request_timeout of its transaction.
func TestRequestTimeout(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"), func(_ *server.Config, engine *embedded.Config) { engine.CallTimeout = 10 * time.Minute })
	ended := make(chan struct{}, 100)
	b.disturbed(func(r *http.Request) int {
		io.Copy(io.Discard, r.Body) // the end of the connection is seen only after the body
		<-r.Context().Done()
		ended <- struct{}{}
		return 500
	})
	b.says(200, "SUCCESS")(b.post("prepare", `{"gid":"a","trans_type":"tcc","request_timeout":1}`))
	b.says(200, "SUCCESS")(b.post("registerBranch", b.registration("a", "01", b.busi.URL+"/in/confirm")))
	b.says(200, "SUCCESS")(b.post("submit", `{"gid":"a","trans_type":"tcc"}`))
	<-ended
	sagatest.Eventually(t, "it is in the log", func() bool {
		found, err := b.orch.Lookup(t.Context(), "a")
		sagatest.Must(t, err)
		return found.Failures > 0 && strings.Contains(fmt.Sprint(found.Branches), "request_timeout")
	})
	b.disturbed(nil)
	b.reaches("a", "succeed")
}
