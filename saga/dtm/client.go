package dtm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/dtm-labs/client/dtmcli/dtmimp"
	"github.com/go-resty/resty/v2"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// client talks to the DTM server, with the messages and the HTTP client of
// DTM's own client, and a context.
type client struct {
	server  string
	timeout time.Duration
}

func (c client) request(ctx context.Context) *resty.Request {
	return dtmcli.GetRestyClient2(c.timeout).R().SetContext(ctx)
}

// errRefused is of a request that the server has answered with its no.
var errRefused = errors.New("the DTM server refuses")

func (c client) post(ctx context.Context, operation string, body any) error {
	return answer(c.request(ctx).SetBody(body).Post(c.server + "/" + operation))
}

func answer(reply *resty.Response, err error) error {
	switch {
	case err != nil:
		return err
	case reply.StatusCode() == http.StatusConflict || strings.Contains(reply.String(), dtmcli.ResultFailure):
		return fmt.Errorf("%w: %s", errRefused, wire.Message(reply.Body()))
	case reply.StatusCode() != http.StatusOK:
		return fmt.Errorf("the DTM server answered %s: %s", reply.Status(), wire.Message(reply.Body()))
	}
	return nil
}

func (c client) ping(ctx context.Context) error {
	return answer(c.request(ctx).Get(c.server + "/newGid"))
}

// base is what the server gets to know of a transaction.
func (c client) base(gid string) *dtmimp.TransBase {
	tb := dtmimp.NewTransBase(gid, wire.TransType, c.server, "")
	tb.RequestTimeout = int64(c.timeout / time.Second)
	return tb
}

// register tells the server of a branch.
func (c client) register(ctx context.Context, s *step) error {
	return c.post(ctx, "registerBranch", map[string]string{
		"gid": s.call.GID, "trans_type": wire.TransType, "branch_id": s.call.BranchID,
		"data": string(s.call.Payload), dtmimp.OpConfirm: s.url, dtmimp.OpCancel: s.url,
	})
}

// record is what the server answers to a query.
type record struct {
	Transaction *struct {
		GID            string     `json:"gid"`
		TransType      string     `json:"trans_type"`
		Status         string     `json:"status"`
		RollbackReason string     `json:"rollback_reason"`
		CustomData     string     `json:"custom_data"`
		Owner          string     `json:"owner"`
		CreateTime     *time.Time `json:"create_time"`
		UpdateTime     *time.Time `json:"update_time"`
		FinishTime     *time.Time `json:"finish_time"`
		RollbackTime   *time.Time `json:"rollback_time"`
		NextCronTime   *time.Time `json:"next_cron_time"`
		Options        string     `json:"options"`
	} `json:"transaction"`
	Branches []registered `json:"branches"`
}

// registered is a branch operation that the server knows.
type registered struct {
	URL        string     `json:"url"`
	Data       []byte     `json:"bin_data"`
	BranchID   string     `json:"branch_id"`
	Op         string     `json:"op"`
	Status     string     `json:"status"`
	FinishTime *time.Time `json:"finish_time"`
}

// query reads a transaction; ErrNotFound if there is none.
func (c client) query(ctx context.Context, gid string) (record, error) {
	var r record
	reply, err := c.request(ctx).SetResult(&r).Get(c.server + "/query?" + url.Values{"gid": {gid}}.Encode())
	// Not answer: what is stored may hold any word.
	switch {
	case err != nil:
		return r, err
	case reply.StatusCode() != http.StatusOK:
		return r, fmt.Errorf("the DTM server answered %s: %s", reply.Status(), wire.Message(reply.Body()))
	case r.Transaction == nil || r.Transaction.GID == "":
		return r, saga.ErrNotFound
	}
	return r, nil
}

// states are ours by DTM's names.
var states = map[string]saga.State{
	dtmcli.StatusPrepared:  saga.Trying,
	dtmcli.StatusSubmitted: saga.Confirming,
	dtmcli.StatusSucceed:   saga.Confirmed,
	dtmcli.StatusAborting:  saga.Cancelling,
	dtmcli.StatusFailed:    saga.Cancelled,
}

func (r record) state() saga.State { return states[r.Transaction.Status] }

func (r record) outcome() saga.Outcome {
	o := saga.Outcome{GID: r.Transaction.GID, State: r.state()}
	if o.State == saga.Cancelling || o.State == saga.Cancelled {
		o.Reason = r.Transaction.RollbackReason
	}
	return o
}

// find returns the branch of a step, if the server knows one by its id.
func (r record) find(s *step) (b registered, found bool) {
	for _, b := range r.Branches {
		if b.BranchID == s.call.BranchID {
			return b, true
		}
	}
	return b, false
}

// is reports whether it is the branch of a step.
func (b registered) is(s *step) bool {
	return string(b.Data) == string(s.call.Payload) && b.kind() == s.call.Kind
}

func (b registered) kind() string {
	at, err := url.Parse(b.URL)
	if err != nil {
		return ""
	}
	return path.Base(at.Path)
}
