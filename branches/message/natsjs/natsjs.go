// Package natsjs implements package broker for NATS JetStream.
//
// A [Broker] opens its own JetStream context on the given connection. It does not share
// the limits of other contexts on the connection.
//
// Errors of [New] begin with "natsjs: ". Other errors name the stream or consumer, and
// package message adds the operation.
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
	// Domain is the JetStream domain. Defaults to the domain of the server.
	Domain string

	// APIPrefix is the prefix of the JetStream API, for a stream that another
	// account exports. Set Domain or APIPrefix, but not both.
	APIPrefix string

	// AckTimeout is how long a publish waits for its acknowledgement. Defaults to
	// 5 seconds.
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

// New returns the broker of the connection conn. It makes no request. The caller keeps
// the connection open while the Broker is in use, and closes it afterwards.
//
// Open the connection with nats.MaxReconnects(-1). By default, the client closes a
// connection for good after two minutes without a server.
func New(conn *nats.Conn, config Config) (*Broker, error) {
	if conn == nil {
		return nil, fmt.Errorf("natsjs: new: %w: the connection is nil", broker.ErrInvalid)
	}
	if config.Domain != "" && config.APIPrefix != "" {
		return nil, fmt.Errorf("natsjs: new: %w: Config.Domain and Config.APIPrefix are both set", broker.ErrInvalid)
	}
	if config.AckTimeout <= 0 {
		config.AckTimeout = 5 * time.Second
	}
	options := []jetstream.JetStreamOpt{
		jetstream.WithPublishAsyncMaxPending(maxPending),
		// The client forgets a publish after this time, also if nobody waits for it.
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
		return nil, fmt.Errorf("natsjs: new: %w: %w", broker.ErrInvalid, err)
	}
	return &Broker{conn: conn, js: js, config: config}, nil
}
