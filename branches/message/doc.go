// Package message has a ready-made branch that publishes messages on a broker, and a
// consumer for them. Package natsjs is the broker NATS JetStream. Package broker describes
// what another broker has to do.
//
// # Publishing
//
// Try writes the message into the table saga_outbox, with the state prepared, in the
// branch's local transaction. The message is durable then, and no consumer sees it. Confirm
// publishes it, waits for the broker's acknowledgement, and sets the state published, with
// stream and sequence. Cancel sets the state discarded.
//
//	prepared --Confirm--> published
//	prepared --Confirm--> delayed --> published, with Publish.After
//	prepared --Cancel---> discarded
//
// So a message of a confirmed transaction is published at least once, and is never lost. No
// message is published before the decision, or after a Cancel.
//
// The id of a message, [HeaderID], is gid/branch/ and 26 random characters. Try writes it
// into the outbox. No other message has the same id, not even a message of another service
// with the same gid, or of a gid that is used again after the retention.
//
// The broker drops a repeated id only within the stream's duplicate window, two minutes by
// default. If a crash loses the acknowledgement, a later Confirm publishes the message
// again, and the consumer handles it once. If the broker reports the id as stored, the
// stored message is compared with this one. If they differ, the transaction stays
// confirming and needs attention because of a conflict.
//
// [NewPublisher] refuses a stream with settings that lose messages. The error wraps
// [broker.ErrUnsafe] and names the setting. A setting that loses messages only in some cases
// is logged as a warning. By default, JetStream acknowledges a message before an fsync. So
// run the stream with three replicas, or a single server with sync_interval: always.
//
// # Order of publishing
//
// The messages of one plan or open transaction, on one subject of one stream, are published
// in the order of the plan.
//
// Messages of one stream with the same [Publish.Key] are published in the order in which
// their transactions were decided, also across outages, restarts and several instances. If
// one decision was returned before the other one was requested, its message is published
// first.
//
// A message is sent after the one before it is stored. So a key takes one round trip to the
// broker for each message. Different keys are published in parallel. A message that cannot
// be published, or that belongs to a paused transaction, delays the later messages of its
// key. Their attempts show this as the reason. Keys need the outbox in the engine's
// database.
//
// Nothing else has an order: transactions without a Key, different subjects of a plan,
// different streams, and delayed messages. Two decisions at the same time have no order.
// The database's clock orders the decisions. After a failover to a server with a slower
// clock, decisions around that moment may swap. If a message is published again outside of
// the duplicate window, the second copy comes behind other messages. Only the first copy
// counts.
//
// # Delayed messages
//
// After its Confirm, a message with [Publish.After] waits in the table saga_outbox_delayed
// until it is due by the database's clock. Its transaction is confirmed meanwhile. Once a
// second, every running [Publisher] of the stream, in any instance, publishes the messages
// that are due. So at least one has to run. The engine's cleaning does not remove waiting
// messages.
//
// # Publishing in a local transaction
//
// [Publisher.PublishIn] publishes messages if, and only if, the caller commits a local
// transaction of its own. It needs no engine and no gid, and costs much less than a
// transaction of the log. It writes one row for each message into the table
// saga_outbox_delayed. Such a row has no gid and no branch_id, and its id is a time and random
// characters. Any number of calls may share a local transaction.
//
//	none --COMMIT of the caller--> waiting --acknowledgement--> removed
//	none --rollback--------------> none
//
// The rows are claimed by this Publisher when they are written. Nobody reports a commit, so it
// looks for the rows, at READ COMMITTED, first after a millisecond and then less often. It
// publishes what it finds, waits for the acknowledgements, and removes the rows. It does this
// for five seconds after the call, and for a bounded number of messages. The other rows are
// published within a second, or after their claim, by any running Publisher of the stream with
// this outbox. The claim ends ten seconds and a Config.AckTimeout after the call. So if the
// process dies after the commit, its messages are published about 15 seconds later.
//
// A message is published at least once after the commit, and never before it. If a process
// dies after the acknowledgement, the message is published again with the same id, and the
// consumer handles it once. If a message cannot be published, the attempts and the last error
// are in its row, and a warning is logged. The pause before the next attempt begins with a
// second and doubles, up to a minute.
//
// The messages of one call on one subject are published in their order, each after the one
// before it is stored. If one of them cannot be published, the later ones wait. Different
// calls have no order, and a [Publish.Key] is refused.
//
// # Messages that wait
//
// [Outbox] lists and counts the messages that wait to be published, with the reason and the time
// of the next attempt. It needs no broker, and its reads are bounded. [Outbox.Stats] is for
// monitoring: its Lag is how long the oldest message that is due has waited.
//
// # Consuming
//
// [Consume] runs a handler and writes an inbox row in one local transaction. Then it
// acknowledges the message. If the message comes again, it is found in the inbox and only
// acknowledged. So each message is handled once. The inbox stores a message with its
// consumer, its stream and its logical id. A message without an id gets one from the time
// and the sequence at which it was stored. So if a stream is deleted and created again, its
// messages are new.
//
//	received --handler begins--> begun --commit--> handled
//	                             begun --failure--> received, one attempt more
//	                             begun --the process dies--> received, one attempt more
//	received --attempts used up--> dead letter
//
// Messages with fast handlers share a local transaction; see ConsumerConfig.Batch. If a
// handler fails, only its own work is rolled back, to a savepoint.
//
// The inbox row is written when the message comes. The local transaction that handles one
// message also marks the next message as begun. So the inbox shows which handlers were
// running in a process that died, and a message that ends the process becomes a dead letter
// after its attempts. If several messages shared a local transaction, each of them is
// handled alone from then on. If the process dies again, the message that was handled then
// has used up two attempts, and the others none. While a handler runs, its local transaction
// holds the lock of the row, and other processes leave the message alone.
//
// Only failures of the handler count as attempts: an error, a panic, a timeout, or a COMMIT
// that the database refuses because of the handler's work. A fault of the database does not
// count, also if the handler returns an error because of it. Then the consumer requests no
// messages until the database accepts writes, keeps its messages, and runs their handlers
// again. A fault of the broker does not count. [Consumer.Stop] does not count, and gives
// messages back to the broker.
//
// A deleted consumer is created again from its first start, and the inbox has the messages
// that were handled. An inbox row stays as long as the stream has its message, and for
// ConsumerConfig.Retention. If the stream does not exist, the consumer waits for it.
// [Consumer.State] reports what the consumer is doing. [Consumer.Done] and [Consumer.Err]
// report whether it has ended, and why.
//
// # Order of handling
//
// All workers of a process together handle the messages of a key one after the other, in
// the order of the stream. This also holds after a failure, after an outage of the broker
// or the database, and after a restart of the process. A failing message delays the later
// messages of its key. There is no order between keys, and no order between processes: two
// processes with the same name may handle messages of one key at the same time. With
// several workers, messages without a key have no order.
//
// # Dead letters
//
// A message becomes a dead letter when its attempts are used up, or when its handler returns
// an error of [Permanent]. It is stored in the dead-letter stream, with the reason.
// [DeadLetters] lists dead letters, sends them again to the consumer that could not handle
// them, or deletes them. Each of these acts is recorded. [DeadLetters.Newest] and
// [DeadLetters.LatestActs] are for pages. If a message would be too large with
// the headers of a dead letter, the letter has no data: they stay in the stream of the
// message.
//
// # Trace context
//
// Try writes the trace context of its caller into the headers, by default as W3C
// traceparent. It is stored with the message, so it survives a crash. The handler gets it in
// its context. Observers of the [ConsumerConfig] are told of each call of the handler.
package message
