// Package message is a ready-made branch that publishes messages on NATS
// JetStream, and the consuming side of it.
//
// # Publishing
//
// Try writes the message into the table saga_outbox, state prepared, in the
// branch's local transaction: durable, and to be seen by nobody. Confirm
// publishes it with the header Nats-Msg-Id = gid/branch, waits for the broker's
// acknowledgement, and marks it published with its stream and sequence. Cancel
// marks it discarded.
//
//	prepared --Confirm--> published
//	prepared --Cancel---> discarded
//
// So a message is published at least once, is never lost, never goes out before
// the decision, and never after a Cancel. The broker drops a repeated id only
// inside the stream's duplicate window, two minutes by default: a Confirm that
// is repeated later, because a crash lost the acknowledgement, publishes it
// again. The consuming side makes it once.
//
// A JetStream acknowledgement is not an fsync by default: run the stream with
// three replicas, or a single server with sync_interval: always. Published rows
// stay in the outbox and can be replayed.
//
// # Consuming
//
// [Consume] runs a handler and writes an inbox row, by the logical id of the
// message, in one local transaction, and then acknowledges, waiting for the
// server to say that it has noted it. A delivery of a message that is in the
// inbox only acknowledges. A failing handler gets the message again, with
// growing pauses; after the last attempt the message goes to a dead-letter
// stream with the reason, from where [Resend] sends it again. JetStream itself
// only raises an advisory when a message exceeds MaxDeliver, and has no
// dead-letter stream; so the count is kept here, and the consumer's MaxDeliver
// is unlimited.
//
// # Trace context
//
// Try takes the trace context of its caller into the headers, as W3C
// traceparent by default; it is stored with the message, so that it survives a
// crash, and is put into the context of the handler.
package message
