package dtm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/dtm-labs/client/dtmcli/dtmimp"
	"github.com/go-resty/resty/v2"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// maxAttempts is the most times that a request without an answer is sent. Every request
// is safe to repeat.
const maxAttempts = 3

// client sends requests to the DTM server, with the messages and the HTTP client of DTM's
// own client, and with a context.
type client struct {
	server  string
	timeout time.Duration
}

func (c client) request(ctx context.Context) *resty.Request {
	return dtmcli.GetRestyClient2(c.timeout).R().SetContext(ctx)
}

// errRefused is the error of a request that the server has refused.
var errRefused = errors.New("the DTM server refuses")

func (c client) post(ctx context.Context, operation string, body any) error {
	return checkReply(c.request(ctx).SetBody(body).Post(c.server + "/" + operation))
}

func checkReply(reply *resty.Response, err error) error {
	switch {
	case err != nil:
		return err
	case reply.StatusCode() == http.StatusConflict || strings.Contains(reply.String(), dtmcli.ResultFailure):
		return fmt.Errorf("%w: %s", errRefused, wire.Message(reply.Body()))
	}
	return checkStatus(reply)
}

func checkStatus(reply *resty.Response) error {
	if reply.StatusCode() != http.StatusOK {
		return fmt.Errorf("the DTM server answered %s: %s", reply.Status(), wire.Message(reply.Body()))
	}
	return nil
}

func (c client) ping(ctx context.Context) error {
	return checkReply(c.request(ctx).Get(c.server + "/newGid"))
}

// base returns the part of a request that is the same in all requests of a transaction.
func (c client) base(gid string) *dtmimp.TransBase {
	tb := dtmimp.NewTransBase(gid, wire.TransType, c.server, "")
	tb.RequestTimeout = int64(c.timeout / time.Second)
	return tb
}

// register registers a branch with the server.
func (c client) register(ctx context.Context, s *step) error {
	return c.post(ctx, "registerBranch", map[string]string{
		"gid": s.call.GID, "trans_type": wire.TransType, "branch_id": s.call.BranchID,
		"data": string(s.call.Payload), dtmimp.OpConfirm: s.url, dtmimp.OpCancel: s.url,
	})
}

// query reads a transaction. It returns ErrNotFound if there is none.
func (c client) query(ctx context.Context, gid string) (r record, err error) {
	for range maxAttempts {
		if r, err = c.queryOnce(ctx, gid); err == nil || errors.Is(err, saga.ErrNotFound) || ctx.Err() != nil {
			break
		}
	}
	return r, err
}

func (c client) queryOnce(ctx context.Context, gid string) (record, error) {
	var r record
	reply, err := c.request(ctx).SetResult(&r).Get(c.server + "/query?" + url.Values{"gid": {gid}}.Encode())
	if err == nil {
		err = checkStatus(reply) // not checkReply: the payload of a branch may hold DTM's words
	}
	switch {
	case err != nil:
		return r, err
	case r.Transaction == nil || r.Transaction.GID == "":
		return r, saga.ErrNotFound
	}
	return r, nil
}
