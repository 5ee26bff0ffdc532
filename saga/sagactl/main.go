package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/branches/message/natsjs"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/ctl"
	"github.com/tccsaga/tccsaga/saga/ctl/database"
)

func main() {
	os.Exit(ctl.Main(context.Background(), os.Args[1:], ctl.Config{Open: database.Open, Create: database.Create, Broker: connect}))
}

// connect connects to the NATS server at an address. Its errors hold no password.
func connect(ctx context.Context, address string) (broker.Broker, func(), error) {
	if address == "" {
		return nil, nil, fmt.Errorf("%w: no NATS server is given: use --nats, $SAGACTL_NATS, or the profile", saga.ErrInvalid)
	}
	name, secret := "the NATS server", ""
	if at, err := url.Parse(address); err == nil {
		name += " " + at.Redacted()
		secret, _ = at.User.Password()
	}
	limit := 10 * time.Second
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end))
	}
	conn, err := nats.Connect(address, nats.Name("sagactl"), nats.Timeout(limit))
	if err != nil {
		text := err.Error()
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "xxxxx")
		}
		return nil, nil, fmt.Errorf("%s cannot be reached: %s", name, text)
	}
	b, err := natsjs.New(conn, natsjs.Config{})
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return b, conn.Close, nil
}
