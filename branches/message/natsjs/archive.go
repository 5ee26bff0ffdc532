package natsjs

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// First returns the first message of a stream at or after a sequence.
func (b *Broker) First(ctx context.Context, stream string, from uint64) (broker.Stored, error) {
	handle, err := b.js.Stream(ctx, stream)
	if err != nil {
		return broker.Stored{}, notFound(err)
	}
	msg, err := handle.GetMsg(ctx, max(from, 1), jetstream.WithGetMsgSubject(">"))
	if err != nil {
		return broker.Stored{}, notFound(err)
	}
	return broker.Stored{Sequence: msg.Sequence, Time: msg.Time, Message: broker.Message{
		ID: msg.Header.Get(jetstream.MsgIDHeader), Subject: msg.Subject, Headers: msg.Header, Data: msg.Data,
	}}, nil
}

// Last returns the sequence of the message that was stored last.
func (b *Broker) Last(ctx context.Context, stream string) (uint64, error) {
	handle, err := b.js.Stream(ctx, stream)
	if err != nil {
		return 0, notFound(err)
	}
	return handle.CachedInfo().State.LastSeq, nil
}

// Remove removes a message. It is no error if it is gone.
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
