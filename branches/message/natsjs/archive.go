package natsjs

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// First returns the first message of a stream at or after a sequence whose subject
// matches the pattern.
func (b *Broker) First(ctx context.Context, stream, pattern string, from uint64) (broker.Stored, error) {
	handle, err := b.js.Stream(ctx, stream)
	if err != nil {
		return broker.Stored{}, notFound(err)
	}
	msg, err := handle.GetMsg(ctx, max(from, 1), jetstream.WithGetMsgSubject(pattern))
	if err != nil {
		return broker.Stored{}, notFound(err)
	}
	return broker.Stored{Sequence: msg.Sequence, Time: msg.Time, Message: broker.Message{
		ID: msg.Header.Get(jetstream.MsgIDHeader), Subject: msg.Subject, Headers: msg.Header, Data: msg.Data,
	}}, nil
}

// Range returns the sequences of the first message that is still in a stream, and of the
// message that was stored last.
func (b *Broker) Range(ctx context.Context, stream string) (first, last uint64, err error) {
	handle, err := b.js.Stream(ctx, stream)
	if err != nil {
		return 0, 0, notFound(err)
	}
	state := handle.CachedInfo().State
	return state.FirstSeq, state.LastSeq, nil
}

// Keeps reports whether a stream keeps messages after they are acknowledged: its
// retention policy is limits.
func (b *Broker) Keeps(ctx context.Context, stream string) (bool, error) {
	handle, err := b.js.Stream(ctx, stream)
	if err != nil {
		return false, notFound(err)
	}
	return handle.CachedInfo().Config.Retention == jetstream.LimitsPolicy, nil
}

// Remove removes a message. If the message does not exist, Remove succeeds.
func (b *Broker) Remove(ctx context.Context, stream string, sequence uint64) error {
	handle, err := b.js.Stream(ctx, stream)
	if err == nil {
		err = handle.DeleteMsg(ctx, sequence)
	}
	if errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
		if _, gone := handle.GetMsg(ctx, sequence); errors.Is(gone, jetstream.ErrMsgNotFound) {
			return nil
		}
	}
	return notFound(err)
}
