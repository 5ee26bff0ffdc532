package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/dtm/server"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// Without wait_result a decision is answered when it is durable, however long the
// calls take; with it, for a bounded time.
func TestDecisionsDoNotWait(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ operation, decided, finished string }{{"submit", "submitted", "succeed"}, {"abort", "aborting", "failed"}} {
		t.Run(c.operation, func(t *testing.T) {
			t.Parallel()
			b := newBank(t, sqltest.Open(t, "sqlite"), func(config *server.Config, engine *embedded.Config) {
				config.MaxWait, config.MaxRequests, engine.CallTimeout = 50*time.Millisecond, 1, time.Minute
			})
			release := make(chan struct{})
			free := sync.OnceFunc(func() { close(release) })
			t.Cleanup(free)
			b.disturbed(func(r *http.Request) int {
				if r.URL.Path == "/in/nothing" {
					return 0
				}
				<-release
				return 200
			})
			b.open("a", "/in/confirm")
			b.says(200, "SUCCESS")(b.post(c.operation, `{"gid":"a","trans_type":"tcc"}`))
			if q := b.query("a"); q.Transaction.Status != c.decided {
				t.Errorf("%+v", q)
			}
			b.open("waits", "/in/confirm")
			b.says(425, "not every branch is yet")(b.post(c.operation, `{"gid":"waits","trans_type":"tcc","wait_result":true}`))
			b.says(425, "ONGOING")(b.post(c.operation, `{"gid":"waits","trans_type":"tcc","wait_result":true}`))
			free()
			b.reaches("a", c.finished)
			b.reaches("waits", c.finished)
			b.says(200, "SUCCESS")(b.post(c.operation, `{"gid":"waits","trans_type":"tcc","wait_result":true}`))
		})
	}
}

// A request that waits for a result keeps no other out.
func TestWaitingHoldsUpNobody(t *testing.T) {
	t.Parallel()
	called, release := make(chan struct{}, 2), make(chan struct{})
	b := newBank(t, sqltest.Open(t, "sqlite"), func(config *server.Config, engine *embedded.Config) {
		config.MaxWait, config.MaxRequests, engine.CallTimeout = time.Minute, 1, time.Minute
	})
	free := sync.OnceFunc(func() { close(release) })
	t.Cleanup(free)
	b.disturbed(func(*http.Request) int {
		called <- struct{}{}
		<-release
		return 200
	})
	b.open("a", "/in/confirm")
	b.open("b", "/in/confirm")
	var waiting sync.WaitGroup
	waiting.Go(func() { b.says(200, "SUCCESS")(b.post("submit", `{"gid":"a","trans_type":"tcc","wait_result":true}`)) })
	<-called
	b.says(200, "submitted")(b.get("query?gid=a"))
	sagatest.Eventually(t, "no other can wait", func() bool {
		status, text := b.post("submit", `{"gid":"b","trans_type":"tcc","wait_result":true}`)
		return status == 425 && strings.Contains(text, "too many")
	})
	free()
	waiting.Wait()
}

// The time for a body is over when it has arrived: a request may wait for its
// result for longer.
func TestWaitingForLongerThanForABody(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"), func(config *server.Config, _ *embedded.Config) { config.BodyTimeout = 50 * time.Millisecond })
	b.disturbed(func(*http.Request) int {
		<-time.After(200 * time.Millisecond) // a slow branch
		return 200
	})
	b.open("a", "/in/confirm")
	b.says(200, "SUCCESS")(b.post("submit", `{"gid":"a","trans_type":"tcc","wait_result":true}`))
}

func TestBoundsOfATransaction(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"), func(config *server.Config, _ *embedded.Config) {
		config.MaxData, config.MaxTransactionData = 100, 1000
	})
	register := func(gid, id string, n int) (int, string) {
		return b.post("registerBranch", fmt.Sprintf(`{"gid":%q,"trans_type":"tcc","branch_id":%q,"data":%q}`, gid, id, strings.Repeat("x", n)))
	}
	for _, gid := range []string{"bytes", "number"} {
		b.says(200, "SUCCESS")(b.post("prepare", `{"gid":"`+gid+`","trans_type":"tcc"}`))
	}
	b.says(400, "101 bytes, 100 are allowed")(register("bytes", "01", 101))
	for i := range 10 {
		b.says(200, "SUCCESS")(register("bytes", saga.BranchID(i+1), 100))
	}
	b.says(400, "1001 bytes of data and URLs, 1000 are allowed")(register("bytes", "11", 1))
	b.says(200, "SUCCESS")(register("bytes", "10", 100)) // again
	for i := range saga.MaxBranches {
		b.says(200, "SUCCESS")(register("number", saga.BranchID(i+1), 1))
	}
	b.says(400, "99 branches already")(register("number", "0101", 1))
	b.says(200, "SUCCESS")(register("number", "99", 1)) // again
	for says, id := range map[string]string{"branch": "", "semicolon": "0;1", "printable": "0/1", "characters": strings.Repeat("1", 200)} {
		b.says(400, says)(register("number", id, 1))
	}
	b.says(200, "SUCCESS")(b.post("submit", `{"gid":"number","trans_type":"tcc","wait_result":true}`))
}

// The answer to a query is bounded, and says what it leaves out.
func TestBoundsOfAQuery(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"), func(config *server.Config, _ *embedded.Config) { config.MaxTransactionData = 4 << 20 })
	b.says(200, "SUCCESS")(b.post("prepare", `{"gid":"a","trans_type":"tcc"}`))
	data := strings.Repeat("x", 1<<16-1)
	for i := range 20 {
		b.says(200, "SUCCESS")(b.post("registerBranch", fmt.Sprintf(`{"gid":"a","trans_type":"tcc","branch_id":%q,"data":%q}`, saga.BranchID(i+1), data)))
	}
	status, text := b.get("query?gid=a")
	var got struct {
		Branches []struct {
			Data []byte `json:"bin_data"`
		}
		Without int `json:"branches_without_data"`
	}
	sagatest.Must(t, json.Unmarshal([]byte(text), &got))
	if status != 200 || len(text) > 1<<20+64<<10 || len(got.Branches) != 40 || got.Without != 15 ||
		string(got.Branches[0].Data) != data || got.Branches[39].Data != nil {
		t.Errorf("%d, %d bytes, %d branches, %d without data", status, len(text), len(got.Branches), got.Without)
	}
}
