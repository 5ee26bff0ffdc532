package dtmtests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/dtm/server"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// harness is our server for DTM's tests. They look at a transaction after each step: after
// its submit or abort was processed, and after a cron has processed it. So nothing is
// repeated by itself: retry_interval is 10 seconds, DTM's default, and no test takes so long.
type harness struct {
	t         *testing.T
	db        *gorm.DB
	engine    *embedded.Engine
	api       http.Handler
	processed chan string
}

func newHarness(t *testing.T, busi string) *harness {
	db := sqltest.Open(t, "mysql")
	engine := sagatest.Open(t, db, embedded.Config{Poll: 10 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	url := "http://" + busi + "/api/busi/"
	api, err := server.New(engine, server.Config{Hosts: []string{busi}, Logger: slog.New(slog.DiscardHandler),
		Topics: map[string][]string{"http_trans": {url + "TransOut", url + "TransIn"}}})
	sagatest.Must(t, err)
	sagatest.Run(t, engine)
	return &harness{t: t, db: db, engine: engine, api: api, processed: make(chan string, 100)}
}

func (h *harness) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/test/processed":
		select {
		case gid := <-h.processed:
			io.WriteString(w, gid)
		case <-time.After(10 * time.Second):
		case <-r.Context().Done():
		}
	case r.URL.Path == "/test/cron":
		now, _ := strconv.Atoi(r.FormValue("now"))
		ahead, _ := strconv.Atoi(r.FormValue("cron"))
		io.WriteString(w, h.cron(r.Context(), time.Duration(now)*time.Second, time.Duration(ahead)*time.Second))
	case r.Method == http.MethodPost:
		h.serve(w, r)
	default:
		h.api.ServeHTTP(w, r)
	}
}

// serve serves a request of the API. If the request makes the server process a transaction,
// its gid follows when that has come to its end.
func (h *harness) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var fields map[string]any
	gid := ""
	if json.Unmarshal(body, &fields) == nil {
		gid, _ = fields["gid"].(string)
		if fields["retry_interval"] == nil && (strings.HasSuffix(r.URL.Path, "/prepare") || strings.HasSuffix(r.URL.Path, "/submit")) {
			fields["retry_interval"] = 10
			body, _ = json.Marshal(fields)
		}
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	before, err := h.engine.Lookup(r.Context(), gid)
	if err != nil {
		before = &saga.Transaction{Summary: saga.Summary{GID: gid, State: saga.Trying}}
	}
	answer := httptest.NewRecorder()
	h.api.ServeHTTP(answer, r)
	// A DTM server does not process a message that is aborted.
	decides := strings.HasSuffix(r.URL.Path, "/submit") || strings.HasSuffix(r.URL.Path, "/abort") && fields["trans_type"] != "msg"
	waited := fields["wait_result"] == true && answer.Code == http.StatusConflict
	if decides && !before.State.Finished() && (answer.Code == http.StatusOK || answer.Code == http.StatusTooEarly || waited) {
		go func() {
			h.settle(context.WithoutCancel(r.Context()), before)
			h.processed <- gid
		}()
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	w.Write(answer.Body.Bytes())
}

// settle waits until a transaction has finished, or a call has failed since before.
func (h *harness) settle(ctx context.Context, before *saga.Transaction) {
	for range 2000 {
		found, err := h.engine.Lookup(ctx, before.GID)
		switch {
		case err != nil || found.State.Finished():
			return
		case found.Failures > known(found, before):
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// known returns how many failures do not count: those before, or the Trys because of which the
// transaction is cancelled now.
func known(t, before *saga.Transaction) int {
	if t.State != saga.Cancelling || before.State != saga.Trying {
		return before.Failures
	}
	trys := 0
	for _, b := range t.Branches {
		for _, a := range b.Attempts {
			if a.Operation == barrier.Try {
				trys++
			}
		}
	}
	return trys
}

// cron processes one transaction that is due ahead of time, as if it were later by now, and
// returns its gid.
func (h *harness) cron(ctx context.Context, now, ahead time.Duration) string {
	all, err := h.engine.List(ctx, saga.Filter{Unfinished: true})
	sagatest.Must(h.t, err)
	for _, s := range all {
		if time.Until(s.DueAt) > ahead && time.Until(s.DeadlineAt) > ahead {
			continue
		}
		before, err := h.engine.Lookup(ctx, s.GID)
		sagatest.Must(h.t, err)
		if s.State != saga.Trying || s.TryAttempts != 0 || time.Until(s.DeadlineAt) <= now {
			h.pass(s.GID, now)
			h.settle(ctx, before)
		}
		h.processed <- s.GID
		return s.GID
	}
	return ""
}

// forget removes what a test that has failed has left.
func (h *harness) forget() {
	sqltest.Exec(h.t, h.db, "DELETE FROM saga_transactions WHERE due_at IS NOT NULL")
	for range len(h.processed) {
		<-h.processed
	}
}

// pass lets time pass for a transaction: its calls are due, and its deadline is nearer.
func (h *harness) pass(gid string, now time.Duration) {
	const due = "- INTERVAL 1000 SECOND"
	sqltest.Exec(h.t, h.db, "UPDATE saga_attempts SET next_at = next_at "+due+" WHERE gid = ?", gid)
	sqltest.Exec(h.t, h.db, fmt.Sprintf("UPDATE saga_transactions SET created_at = created_at - INTERVAL %[1]d SECOND, deadline_at = deadline_at - INTERVAL %[1]d SECOND, due_at = due_at %[2]s WHERE gid = ?", int(now.Seconds()), due), gid)
}
