package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// branch is a branch as a client registers it: the URLs of Confirm and Cancel, and their
// body.
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

func (b branch) size() int { return len(b.Confirm) + len(b.Cancel) + len(b.Data) }

// caller calls the branches of a target.
type caller struct {
	client *http.Client
	target target
}

// Call makes a Confirm or Cancel. It does nothing for a Try: the client calls the Try
// itself, after it has registered the branch.
func (c *caller) Call(ctx context.Context, call saga.Call) error {
	if call.Op == barrier.Try {
		return nil
	}
	b, err := decode(call.Payload)
	if err != nil {
		return fmt.Errorf("read the stored branch: %w", err)
	}
	address := b.Confirm
	if call.Op == barrier.Cancel {
		address = b.Cancel
	}
	if address == "" {
		return nil
	}
	at, err := parse(address)
	if err != nil {
		return err
	}
	if !c.target.has(at) {
		return fmt.Errorf("%s is not below %s%s", at.Redacted(), c.target.host, c.target.prefix)
	}
	call.Payload = []byte(b.Data)
	return wire.Post(ctx, c.client, at, call)
}
