// Package dtmsvr takes the place of the server in DTM's own tests. They then run against
// another server, which has the API and, for the tests, the endpoints /test/processed and
// /test/cron.
package dtmsvr

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/dtm-labs/dtm/client/dtmcli/dtmimp"
	"github.com/dtm-labs/dtm/dtmsvr/storage"
	"github.com/dtm-labs/dtm/dtmutil"
)

// TransGlobal is a transaction.
type TransGlobal struct {
	storage.TransGlobalStore
}

// TransBranch is an operation of a branch.
type TransBranch = storage.TransBranchStore

// What the tests change: by how much a cron is ahead of time.
var (
	NowForwardDuration        time.Duration
	CronForwardDuration       time.Duration
	UpdateBranchAsyncInterval = 200 * time.Millisecond
)

// TransProcessedTestChan gets the gid of each transaction that was processed once.
var TransProcessedTestChan chan string

// StartSvr passes on what the server has processed.
func StartSvr() *gin.Engine {
	for {
		if gid := call("/test/processed"); gid != "" {
			TransProcessedTestChan <- gid
		}
	}
}

// CronTransOnce makes the server process a transaction that is due.
func CronTransOnce() string {
	return call(fmt.Sprintf("/test/cron?now=%d&cron=%d", int(NowForwardDuration.Seconds()), int(CronForwardDuration.Seconds())))
}

// CronUpdateTopicsMapOnce does nothing: the topics are in the configuration.
func CronUpdateTopicsMapOnce() {}

// PopulateDB does nothing: the server has its own database.
func PopulateDB(bool) {}

// GetTransGlobal returns a transaction.
func GetTransGlobal(gid string) *TransGlobal {
	found := GetStore().FindTransGlobalStore(gid)
	if found == nil {
		dtmimp.E2P(fmt.Errorf("no transaction with the gid %s", gid))
	}
	return &TransGlobal{*found}
}

// GetStore returns a store that can only be read.
func GetStore() storage.Store { return store{} }

type store struct{ storage.Store }

func (store) FindTransGlobalStore(gid string) *storage.TransGlobalStore {
	return query(gid).Transaction
}

func (store) FindBranches(gid string) []storage.TransBranchStore { return query(gid).Branches }

type answer struct {
	Transaction *storage.TransGlobalStore  `json:"transaction"`
	Branches    []storage.TransBranchStore `json:"branches"`
}

func query(gid string) (a answer) {
	dtmimp.E2P(json.Unmarshal([]byte(call("/api/dtmsvr/query?gid="+gid)), &a))
	return a
}

// call sends a GET to the server.
func call(path string) string {
	reply, err := http.Get(dtmutil.DefaultHTTPServer[:len(dtmutil.DefaultHTTPServer)-len("/api/dtmsvr")] + path)
	dtmimp.E2P(err)
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	dtmimp.E2P(err)
	if reply.StatusCode != http.StatusOK {
		dtmimp.E2P(fmt.Errorf("%s: %s", reply.Status, body))
	}
	return string(body)
}
