package natsjs

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// stream is an open stream for publishing.
type stream struct {
	*Broker
	handle   jetstream.Stream
	config   jetstream.StreamConfig // when it was opened
	info     broker.StreamInfo
	subjects []string // patterns of the subjects that messages may have
}

// OpenStream creates a stream with file storage, or reads the settings of an existing
// one.
func (b *Broker) OpenStream(ctx context.Context, config broker.StreamConfig) (broker.Stream, error) {
	handle, err := b.ensureStream(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", config.Name, err)
	}
	found := handle.CachedInfo().Config
	if err := checkCarries(found, config.Subjects); err != nil {
		return nil, fmt.Errorf("stream %s: %w", config.Name, err)
	}
	var warnings []broker.Problem
	if len(config.Subjects) > 0 {
		var unsafe []broker.Problem
		if unsafe, warnings = problems(handle.CachedInfo(), config.RetryFor); len(unsafe) > 0 {
			return nil, fmt.Errorf("stream %s: %w: %s", config.Name, broker.ErrUnsafe, unsafe[0])
		}
	}
	s := &stream{Broker: b, handle: handle, config: found, subjects: config.Subjects, info: broker.StreamInfo{
		Name: found.Name, Subjects: found.Subjects, Replicas: found.Replicas, Window: found.Duplicates, Warnings: warnings,
	}}
	if len(s.subjects) == 0 {
		s.subjects = found.Subjects
	}
	return s, nil
}

func (b *Broker) ensureStream(ctx context.Context, config broker.StreamConfig) (jetstream.Stream, error) {
	if config.Name == "" || strings.ContainsAny(config.Name, " .*>/\\\t\r\n") {
		return nil, fmt.Errorf("%w: the name of a stream must not be empty, and must not contain spaces or . * > / \\", broker.ErrInvalid)
	}
	handle, err := b.js.Stream(ctx, config.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) && len(config.Subjects) > 0 {
		handle, err = b.js.CreateStream(ctx, jetstream.StreamConfig{Name: config.Name, Subjects: config.Subjects,
			Storage: jetstream.FileStorage, Replicas: max(1, config.Replicas)})
	}
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another process was faster
		handle, err = b.js.Stream(ctx, config.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("opening it (is the NATS server running, with JetStream?): %w", notFound(err))
	}
	return handle, nil
}

// notFound wraps broker.ErrNotFound if err says that something does not exist.
func notFound(err error) error {
	for _, absent := range []error{jetstream.ErrStreamNotFound, jetstream.ErrConsumerNotFound, jetstream.ErrMsgNotFound} {
		if errors.Is(err, absent) {
			return fmt.Errorf("%w: %w", broker.ErrNotFound, err)
		}
	}
	return err
}

// Info describes the stream at the time when it was opened.
func (s *stream) Info() broker.StreamInfo { return s.info }

func checkCarries(found jetstream.StreamConfig, subjects []string) error {
	for _, subject := range subjects {
		if !carried(found.Subjects, subject) {
			return fmt.Errorf("%w: it carries %s, but not %s: change the stream or the configuration", broker.ErrInvalid, strings.Join(found.Subjects, ", "), subject)
		}
	}
	return nil
}

// carried reports whether one of the patterns covers the subject. The subject may be a
// pattern itself.
func carried(patterns []string, subject string) bool {
	for _, pattern := range patterns {
		if covers(strings.Split(pattern, "."), strings.Split(subject, ".")) {
			return true
		}
	}
	return false
}

func covers(pattern, subject []string) bool {
	for i, token := range pattern {
		switch {
		case token == ">":
			return len(subject) > i
		case i >= len(subject) || subject[i] == ">":
			return false
		case token != "*" && token != subject[i]:
			return false
		}
	}
	return len(pattern) == len(subject)
}

// connected returns an error while there is no connection: the client would keep a
// message and send it later.
func (b *Broker) connected() error {
	if status := b.conn.Status(); status != nats.CONNECTED {
		return fmt.Errorf("the connection to the broker is %s", strings.ToLower(status.String()))
	}
	return nil
}
