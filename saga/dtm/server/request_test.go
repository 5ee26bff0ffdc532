package server_test

import (
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/sql/sqltest"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"))
	here := `"confirm":"` + b.busi.URL + `/in/confirm","cancel":"` + b.busi.URL + `/in/cancel","data":"{}"`
	for _, c := range []struct {
		name, path, body string
		status           int
		says             string
	}{
		{"prepared", "prepare", `{"gid":"a","trans_type":"tcc"}`, 200, `"dtm_result":"SUCCESS"`},
		{"again", "prepare", `{"gid":"a","trans_type":"tcc"}`, 200, "SUCCESS"},
		{"no gid", "prepare", `{"trans_type":"tcc"}`, 400, "gid is empty"},
		{"a workflow", "prepare", `{"gid":"x","trans_type":"workflow"}`, 400, "this server has tcc"},
		{"custom data", "prepare", `{"gid":"x","trans_type":"tcc","custom_data":"b"}`, 400, "custom_data"},
		{"negative", "prepare", `{"gid":"x","trans_type":"tcc","timeout_to_fail":-1}`, 400, "between"},
		{"endless", "prepare", `{"gid":"x","trans_type":"tcc","timeout_to_fail":18700000000}`, 400, "between"},
		{"not JSON", "prepare", `gid`, 400, "invalid"},
		{"large", "prepare", `{"gid":"` + strings.Repeat("x", 2<<20) + `"}`, 413, "large"},
		{"another host", "registerBranch", `{"gid":"a","trans_type":"tcc","branch_id":"01","confirm":"http://169.254.169.254/x"}`, 400, "169.254.169.254"},
		{"a file", "registerBranch", `{"gid":"a","trans_type":"tcc","branch_id":"01","confirm":"file:///etc/passwd"}`, 400, "http://"},
		{"registered", "registerBranch", `{"gid":"a","trans_type":"tcc","branch_id":"01",` + here + `}`, 200, "SUCCESS"},
		{"again", "registerTccBranch", `{"gid":"a","trans_type":"tcc","branch_id":"01",` + here + `}`, 200, "SUCCESS"},
		{"with other data", "registerBranch", `{"gid":"a","trans_type":"tcc","branch_id":"01",` + strings.Replace(here, "{}", "1", 1) + `}`, 409, "FAILURE"},
		{"of nobody", "registerBranch", `{"gid":"nobody","trans_type":"tcc","branch_id":"01",` + here + `}`, 409, "FAILURE"},
		{"submit of nobody", "submit", `{"gid":"nobody","trans_type":"tcc"}`, 409, "FAILURE"},
		{"abort of nobody", "abort", `{"gid":"nobody","trans_type":"tcc"}`, 409, "FAILURE"},
		{"aborted", "abort", `{"gid":"a","trans_type":"tcc","rollback_reason":"why not"}`, 200, "SUCCESS"},
		{"again", "abort", `{"gid":"a","trans_type":"tcc"}`, 200, "SUCCESS"},
		{"submitted too late", "submit", `{"gid":"a","trans_type":"tcc"}`, 409, "why not"},
		{"prepared too late", "prepare", `{"gid":"a","trans_type":"tcc"}`, 409, "cancel"},
		{"registered too late", "registerBranch", `{"gid":"a","trans_type":"tcc","branch_id":"02",` + here + `}`, 409, "FAILURE"},
		{"prepared", "prepare", `{"gid":"b","trans_type":"tcc"}`, 200, "SUCCESS"},
		{"submitted without branches", "submit", `{"gid":"b","trans_type":"tcc"}`, 200, "SUCCESS"},
		{"aborted too late", "abort", `{"gid":"b","trans_type":"tcc"}`, 409, "FAILURE"},
		{"no such operation", "forceStop", `{"gid":"b","trans_type":"tcc"}`, 501, "/api/dtmsvr/forceStop is not served"},
		{"nothing", "query?gid=nobody", "", 200, `"transaction":null`},
		{"version", "version", "", 200, "tccsaga"},
	} {
		send := b.post
		if c.body == "" {
			send = func(path, _ string) (int, string) { return b.get(path) }
		}
		if status, text := send(c.path, c.body); status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s %s: %d %s, want %d with %q", c.name, c.path, status, text, c.status, c.says)
		}
	}
}
