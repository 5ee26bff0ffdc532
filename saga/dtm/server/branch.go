package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// branch is a branch as a client has given it: the URLs of its operations, and their body.
type branch struct {
	Type    string `json:"type,omitempty"` // empty for TCC
	ID      string `json:"id,omitempty"`   // for the branch, if the plan has another order than the client
	Action  string `json:"action,omitempty"`
	Confirm string `json:"confirm,omitempty"`
	Cancel  string `json:"cancel,omitempty"`
	Query   string `json:"query_prepared,omitempty"` // of the branch that decides a message
	Data    string `json:"data,omitempty"`
	settings
}

func encode(input any) ([]byte, error) { return json.Marshal(input) }

func decode(payload []byte) (b branch, err error) {
	if err = json.Unmarshal(payload, &b); err == nil && b.Type != "" {
		_, err = parseType(b.Type)
	}
	return b, err
}

func (b branch) transType() transType {
	t, err := parseType(b.Type)
	if err != nil { // it is empty
		return tcc
	}
	return t
}

// url returns the URL of an operation; empty if there is none.
func (b branch) url(op barrier.Op) string {
	switch op {
	case barrier.Try, barrier.Apply:
		return b.Action
	case barrier.Confirm:
		return b.Confirm
	case barrier.Ask:
		return b.Query
	default:
		return b.Cancel
	}
}

func (b branch) size() int {
	return len(b.Action) + len(b.Confirm) + len(b.Cancel) + len(b.Query) + len(b.Data) + b.settings.size()
}

// caller calls the branches of a target.
type caller struct {
	client *http.Client
	target target
}

// Call makes a call. It does nothing for an operation without a URL: the client calls the
// Try of TCC and XA itself.
func (c *caller) Call(ctx context.Context, call saga.Call) error {
	b, err := decode(call.Payload)
	if err != nil {
		return fmt.Errorf("read the stored branch: %w", err)
	}
	address := b.url(call.Op)
	switch {
	case address == "" && call.Op == barrier.Ask:
		return errors.New("the stored branch has no query_prepared, so it cannot be asked")
	case address == "":
		return nil
	}
	at, err := parse(address)
	if err != nil {
		return err
	}
	if !c.target.has(at) {
		return fmt.Errorf("%s is not below %s%s", at.Redacted(), c.target.host, c.target.prefix)
	}
	return c.send(ctx, b, at, call)
}

func (c *caller) send(ctx context.Context, b branch, at *url.URL, call saga.Call) error {
	if limit := b.timeout(); limit > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeoutCause(ctx, limit, errors.New("the request_timeout of the transaction has passed"))
		defer cancel()
	}
	t := b.transType()
	call.Payload = []byte(b.Data)
	if b.ID != "" {
		call.BranchID = b.ID
	}
	query := url.Values{"gid": {call.GID}, "trans_type": {t.String()}, "branch_id": {call.BranchID}, "op": {t.op(call.Op)}}
	r, err := wire.NewRequest(ctx, at, call, query)
	if err != nil {
		return err
	}
	if t == xa {
		r.Method = http.MethodPost // as a DTM server does, also without a body
	}
	for name, values := range b.header() {
		r.Header[name] = values
	}
	return b.retryLater(call, wire.Exchange(c.client, r, call))
}
