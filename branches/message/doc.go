// Package message is a ready-made branch that publishes messages on a broker, and
// the consuming side of it. Package natsjs has the broker: NATS JetStream. Package
// broker says what another one has to keep.
//
// # Publishing
//
// Try writes the message into the table saga_outbox, state prepared, in the
// branch's local transaction: durable, and to be seen by nobody. Confirm
// publishes it, waits for the broker's acknowledgement, and marks it published
// with its stream and sequence. Cancel marks it discarded.
//
//	prepared --Confirm--> published
//	prepared --Confirm--> delayed --> published, with Publish.After
//	prepared --Cancel---> discarded
//
// So a message is published at least once, is never lost, never goes out before
// the decision, and never after a Cancel.
//
// The id of a message, [HeaderID], is gid/branch/ and 26 random characters that Try
// writes into the outbox. No other message has it: not that of another service
// that uses the same gid, and not that of a gid which is used again after the
// retention. The broker drops a repeated id only inside the stream's duplicate
// window, two minutes by default: a Confirm that is repeated later, because a crash
// lost the acknowledgement, publishes the message again, and the consuming side
// handles it once. If the broker says that it has the id already, the stored
// message is compared with this one; if it is another one, the transaction stays
// confirming and is raised to attention as a conflict.
//
// A stream whose settings lose messages is refused by [NewPublisher], with an error
// that wraps [broker.ErrUnsafe] and names the setting; one that loses them in some
// case is logged as a warning. A JetStream acknowledgement is not an fsync by
// default: run the stream with three replicas, or a single server with
// sync_interval: always.
//
// # Order
//
// Messages of one plan, or open transaction, on one subject of one stream are
// published in the order of the plan.
//
// Messages of one stream with the same [Publish.Key] are published in the order in
// which their transactions were decided, also across outages, restarts and several
// instances: one whose decision was returned before the other's was asked for goes
// first. Each is sent when the one before it is stored, so that a key takes one
// message per round trip to the broker; different keys go side by side. A message
// that cannot be published holds up those of its key behind it, which say so in
// their attempts; so does a paused transaction. Keys need the outbox in the engine's
// database.
//
// Nothing else is ordered: not different transactions without a Key, not different
// subjects of a plan, not different streams, and not delayed messages. Two decisions
// at the same time have no order. Decisions are told apart by the database's clock; a
// failover to a server whose clock is behind may swap those of that moment. A
// message that is published a second time, outside of the duplicate window, comes a
// second time behind others; the first time counts.
//
// # Delayed messages
//
// A message with [Publish.After] waits in the table saga_outbox_delayed from its
// Confirm until it is due by the database's clock. Its transaction is confirmed
// meanwhile. Every running [Publisher] of the stream, in any instance, publishes what
// is due, once a second; so one has to run. The engine's retention does not remove
// what still waits.
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
