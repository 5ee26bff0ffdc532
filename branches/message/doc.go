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
// [Consume] runs a handler and writes an inbox row in one local transaction, and
// then acknowledges the message. A message that comes again, and is in the inbox, is
// only acknowledged: each is handled once. The inbox knows a message by its consumer,
// its stream and its logical id; a message without an id is known by the time and the
// sequence of its storing, so that a stream that is deleted and made again has new
// messages.
//
//	received --handler begins--> begun --commit--> handled
//	                             begun --failure--> received, one attempt more
//	                             begun --the process dies--> received, one attempt more
//	received --attempts used up--> buried
//
// Messages whose handlers are fast share a local transaction: see ConsumerConfig.Batch.
// A handler that fails undoes its own work, back to a savepoint, and the others' stays.
//
// The inbox row of a message is written when it comes. The local transaction in which
// one message is handled also says that the handler of the next one begins. So the
// inbox knows which handlers had begun in a process that died, and a message that ends
// the process is put aside after its attempts. If it shared its local transaction,
// each of those is handled alone from then on; the one with which the process dies
// again has spent two attempts, the others none. Where the handler still runs, its local
// transaction holds the lock of the row, and another process leaves the message alone.
//
// Only failures of the handler are attempts: an error, a panic, the end of its time,
// a COMMIT that the database refuses because of what the handler did. A fault of the
// database is none, also if the handler says that it has failed because of it: the
// consumer asks for no messages until the database takes writes, keeps those that it
// has, and runs their handlers again. A fault of the broker is none, nor is the end of
// the process by [Consumer.Stop], which gives messages back.
//
// A deleted consumer is made again where it began, and the inbox knows what was
// handled: its rows stay for as long as the stream has their messages, and for
// ConsumerConfig.Retention. A stream that is gone is waited for. [Consumer.State] says
// what the consumer does, [Consumer.Done] and [Consumer.Err] whether and why it has
// ended.
//
// # Order
//
// Messages with an ordering key are handled one after the other, in the order of the
// stream, by all workers of one process together: also when one fails, when the broker
// or the database was away, and when the process was started again. A failing message
// holds up those of its key. There is no order between keys, between messages without
// a key if there are several workers, or between processes: two processes with one
// name may have messages of one key at the same time.
//
// # Dead letters
//
// A message whose attempts are used up, or whose handler returns an error of
// [Permanent], goes to the stream of the dead letters, with its reason. [DeadLetters]
// lists them, and sends them again to the consumer that had failed, or deletes them;
// each act is recorded. One that is too large for the headers of a letter becomes a
// letter without its data, which stay in the source stream.
//
// # Trace context
//
// Try takes the trace context of its caller into the headers, as W3C
// traceparent by default; it is stored with the message, so that it survives a
// crash, and is put into the context of the handler.
package message
