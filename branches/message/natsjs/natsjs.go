// Package natsjs implements package broker for NATS JetStream.
//
// It has a JetStream context of its own on the connection that it is given.
// Nothing that it does counts towards the limits of other contexts on the
// connection, and nothing of theirs towards its own.
package natsjs

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// Config configures [New]. The zero value works.
type Config struct {
	// Domain is the JetStream domain. Defaults to that of the server.
	Domain string

	// APIPrefix is the prefix of the JetStream API, of a stream that another
	// account exports. Set Domain or APIPrefix, not both.
	APIPrefix string

	// AckTimeout is for how long the acknowledgement of a publish is waited for
	// at most. Defaults to 5 seconds.
	AckTimeout time.Duration
}

// maxPending is how many published messages may wait for their acknowledgement.
const maxPending = 1 << 14

// Broker is a NATS server, or a cluster of them, with JetStream. It is safe for
// concurrent use.
type Broker struct {
	conn   *nats.Conn
	js     jetstream.JetStream
	config Config
}

var _ broker.Broker = (*Broker)(nil)

// New returns the broker that conn is connected to. It makes no request. The
// caller keeps the connection open while the Broker is in use, and closes it
// afterwards.
//
// Open the connection with nats.MaxReconnects(-1): by default the client gives a
// connection up after two minutes without a server, for good.
func New(conn *nats.Conn, config Config) (*Broker, error) {
	if conn == nil {
		return nil, fmt.Errorf("natsjs: the connection is nil: %w", broker.ErrInvalid)
	}
	if config.Domain != "" && config.APIPrefix != "" {
		return nil, fmt.Errorf("natsjs: Config.Domain and Config.APIPrefix are both set: %w", broker.ErrInvalid)
	}
	if config.AckTimeout <= 0 {
		config.AckTimeout = 5 * time.Second
	}
	options := []jetstream.JetStreamOpt{
		jetstream.WithPublishAsyncMaxPending(maxPending),
		// A publish whose caller has gone is forgotten after this time.
		jetstream.WithPublishAsyncTimeout(config.AckTimeout),
	}
	var js jetstream.JetStream
	var err error
	switch {
	case config.Domain != "":
		js, err = jetstream.NewWithDomain(conn, config.Domain, options...)
	case config.APIPrefix != "":
		js, err = jetstream.NewWithAPIPrefix(conn, config.APIPrefix, options...)
	default:
		js, err = jetstream.New(conn, options...)
	}
	if err != nil {
		return nil, fmt.Errorf("natsjs: %w: %w", broker.ErrInvalid, err)
	}
	return &Broker{conn: conn, js: js, config: config}, nil
}
