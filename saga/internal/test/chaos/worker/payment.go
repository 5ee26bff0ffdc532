package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/tccsaga/tccsaga/saga/internal/test/chaos"
	"github.com/tccsaga/tccsaga/tcc"
)

// pay is the payload of a payment at the gateway, which has no database of ours.
type pay struct{ Cents int64 }

func (pay) Branch() string { return chaos.PaymentKind }

type gateway struct{ url string }

func (g gateway) Try(ctx context.Context, in pay) error     { return g.ask(ctx, chaos.Hold, in) }
func (g gateway) Confirm(ctx context.Context, in pay) error { return g.ask(ctx, chaos.Capture, in) }
func (g gateway) Cancel(ctx context.Context, in pay) error  { return g.ask(ctx, chaos.Release, in) }

// client keeps no connections. On a connection that it has used before, it may send
// a request again by itself.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func (g gateway) ask(ctx context.Context, operation chaos.Operation, in pay) error {
	query := url.Values{"key": {tcc.CallOf(ctx).Key().String()}, "cents": {strconv.FormatInt(in.Cents, 10)}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+"/"+string(operation)+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	switch response.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusConflict:
		return tcc.Reject(fmt.Errorf("the gateway: %s", text))
	default:
		return fmt.Errorf("the gateway: %s: %s", response.Status, text)
	}
}
