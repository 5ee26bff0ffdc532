package remote_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// No answer of anybody ends the process, or shows rows of another transaction.
func FuzzBarrierAnswer(f *testing.F) {
	f.Add(200, `{"caller":"log","gid":"g","request":"id","rows":[{"gid":"g","branch_id":"01","state":"tried","under_way":{"op":"try","by":"x"},"call_left":-5}]}`)
	f.Add(200, `{"caller":"log","gid":"g","request":"id","rows":[{"gid":"h","branch_id":"01"}]}`)
	f.Add(404, "")
	f.Add(302, "[]")
	f.Fuzz(func(t *testing.T, status int, body string) {
		rows, err := remote.ReadBarrier(status, []byte(body), "log", "g", "id")
		if err != nil && len(err.Error()) > 1000 || len(rows) > saga.MaxBranches {
			t.Errorf("%d rows, %.2000v", len(rows), err)
		}
		for _, r := range rows {
			if err != nil || r.GID != "g" || r.Caller != "log" && r.Caller != "" || r.Explain() == "" {
				t.Errorf("%+v, %v", r, err)
			}
		}
	})
}

// A host answers every question, however it looks, and briefly if it is refused.
func FuzzBarrierQuestion(f *testing.F) {
	host, err := remote.NewHost(f.Context(), sqltest.Open(f, "sqlite"), remote.HostConfig{AllowUnsigned: true, Logger: slog.New(slog.DiscardHandler)})
	sagatest.Must(f, err)
	for _, query := range []string{"gid=g&caller=log", "", "gid=%zz", "gid=g&gid=g&caller=log", "gid=g&caller=%40log", "gid=g;caller=x", "gid=g&caller=" + strings.Repeat("x", 300)} {
		f.Add(query, strings.Repeat("0", 32), "POST")
	}
	f.Fuzz(func(t *testing.T, query, id, method string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody)
		r.Method, r.RequestURI, r.ContentLength = method, "/~barrier?"+query, 0
		r.Header.Set("Tccsaga-Request", id)
		w := httptest.NewRecorder()
		host.ServeHTTP(w, r)
		if w.Code != 200 && w.Code != 400 && w.Code != 405 || w.Body.Len() > 2000 {
			t.Errorf("%q: %d %s", query, w.Code, w.Body)
		}
	})
}
