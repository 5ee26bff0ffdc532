package remote_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// A host with keys refuses every head, with a short answer, unless
// it is signed as it came.
func FuzzHead(f *testing.F) {
	good := httptest.NewRequest(http.MethodPost, "/branches/seats.reserve?gid=g&trans_type=tcc&branch_id=01&op=try", strings.NewReader(two))
	// The same in every process.
	now := time.Unix(1_700_000_000, 0)
	good.Header.Set("Tccsaga-Request", strings.Repeat("0", 32))
	keys("a")[0].Sign(good, "theatre", []byte(two), now)
	_, mac, _ := strings.Cut(good.Header.Get("Tccsaga-Signature"), "mac=")
	signature, id := good.Header.Get("Tccsaga-Signature"), good.Header.Get("Tccsaga-Request")
	for _, target := range []string{good.RequestURI, "/", "*", "/branches/%2F?gid=%zz;", "http://x/branches/seats.reserve?gid=g", "//x/?" + strings.Repeat("gid=1&", 100)} {
		for _, s := range []string{signature, "", "key=a", "mac=,mac=", strings.Repeat("key=a,", 100), "key=a, time=1e9, length=-1, body=, mac=00"} {
			f.Add(target, s, id)
		}
	}
	db := sqltest.Open(f, "sqlite")
	host, err := remote.NewHost(f.Context(), db, remote.HostConfig{Name: "theatre", Keys: keys("a"), Logger: slog.New(slog.DiscardHandler)})
	sagatest.Must(f, err)
	host.SetClock(func() time.Time { return now })
	f.Fuzz(func(t *testing.T, target, header, request string) {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(two))
		r.RequestURI = target
		r.Header.Set("Tccsaga-Signature", header)
		r.Header.Set("Tccsaga-Request", request)
		w := httptest.NewRecorder()
		host.ServeHTTP(w, r)
		same := target == good.RequestURI && header == signature && request == id
		refused := w.Code == 400 || w.Code == 401
		forged := request != id || !strings.Contains(strings.ToLower(header), mac)
		if refused && same || !refused && forged || w.Body.Len() > 1000 {
			t.Errorf("%q, %q: %d %s", target, header, w.Code, w.Body)
		}
	})
}
