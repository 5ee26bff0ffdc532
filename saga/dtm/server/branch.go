package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// kind is what the orchestrator calls the branches of DTM's clients.
const kind = "dtm.branch"

// branch is what a client tells of a branch: where its Confirm and Cancel are,
// and their body.
type branch struct {
	Confirm string `json:"confirm"`
	Cancel  string `json:"cancel"`
	Data    string `json:"data"`
}

func encode(input any) ([]byte, error) { return json.Marshal(input) }

func decode(payload []byte) (b branch, err error) {
	err = json.Unmarshal(payload, &b)
	return b, err
}

// caller calls them.
type caller struct {
	client  *http.Client
	allowed func(address string) error
}

// Call makes a Confirm or Cancel. The Try is the client's own; it tells of the
// branch before.
func (c *caller) Call(ctx context.Context, call saga.Call) error {
	if call.Op == barrier.Try {
		return nil
	}
	b, err := decode(call.Payload)
	if err != nil {
		return fmt.Errorf("the stored branch: %w", err)
	}
	address := b.Confirm
	if call.Op == barrier.Cancel {
		address = b.Cancel
	}
	if address == "" {
		return nil
	}
	if err := c.allowed(address); err != nil { // the configuration may have changed
		return err
	}
	at, err := parse(address)
	if err != nil {
		return err
	}
	call.Payload = []byte(b.Data)
	return wire.Post(ctx, c.client, at, call)
}

func parse(address string) (*url.URL, error) {
	at, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, err
	case at.Scheme != "http" && at.Scheme != "https" || at.Host == "":
		return nil, fmt.Errorf("%q does not begin with http:// or https:// and a host", wire.Clip(address, 200))
	case at.User != nil:
		return nil, fmt.Errorf("%s has a user", at.Redacted())
	}
	return at, nil
}
