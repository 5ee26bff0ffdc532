package server_test

import (
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// The list has all types, page by page.
func TestAll(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"))
	b.shelf()
	sagatest.Must(t, b.orch.Begin(t.Context(), saga.Opening{GID: "native"}))
	for _, gid := range []string{"a", "b", "c", "d", "e"} {
		kind := "tcc"
		if gid == "b" || gid == "d" {
			kind = "xa"
		}
		b.says(200, "SUCCESS")(b.post("prepare", `{"gid":"`+gid+`","trans_type":"`+kind+`"}`))
	}
	b.says(200, "SUCCESS")(b.post("submit", `{"gid":"a","trans_type":"tcc","wait_result":true}`))
	b.says(200, "SUCCESS")(b.post("abort", `{"gid":"d","trans_type":"xa","wait_result":true}`))
	for query, want := range map[string]string{
		"":                                  "a b c d e, ",
		"?limit=2":                          "a b, b",
		"?limit=2&position=b":               "c d, d",
		"?limit=2&position=d":               "e, ",
		"?limit=5&position=e":               ", ",
		"?limit=3&transType=tcc":            "a c e, e",
		"?limit=3&transType=tcc&position=e": ", ",
		"?transType=xa":                     "b d, ",
		"?transType=xa&limit=1":             "b, b",
		"?status=succeed":                   "a, ",
		"?status=failed":                    "d, ",
		"?status=prepared&transType=tcc":    "c e, ",
		"?status=nothing":                   ", ",
		"?gid=d":                            "d, ",
		"?gid=native":                       ", ",
		"?gid=nobody":                       ", ",
		"?createTimeEnd=1000":               ", ",
		"?createTimeStart=1000&limit=1000":  "a b c d e, ",
	} {
		if got := b.all(query); got != want {
			t.Errorf("%q: %s, want %s", query, got, want)
		}
	}
}

// The calls of a transaction are due at once when a client asks for it.
func TestResetNextCronTime(t *testing.T) {
	t.Parallel()
	at := newBusi(t)
	b := newBankFor(t, at, patientBackoff)
	b.shelf()
	sagatest.Must(t, b.orch.Begin(t.Context(), saga.Opening{GID: "native"}))
	at.answersOnce(500, "oops")
	b.says(200, "SUCCESS")(b.post("prepare", `{"gid":"a","trans_type":"tcc"}`))
	b.says(409, "undecided")(b.post("resetNextCronTime", `{"gid":"a"}`))
	b.says(200, "SUCCESS")(b.post("registerBranch", b.registration("a", "01", at.URL+"/x")))
	b.says(425, "ONGOING")(b.post("submit", `{"gid":"a","trans_type":"tcc","wait_result":true}`))
	b.says(200, "SUCCESS")(b.post("resetNextCronTime", `{"gid":"a"}`))
	b.reaches("a", "succeed")
	for _, gid := range []string{"a", "native", "nobody"} {
		b.says(409, "")(b.post("resetNextCronTime", `{"gid":"`+gid+`"}`))
	}
}
