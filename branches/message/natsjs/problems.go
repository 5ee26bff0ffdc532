package natsjs

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// problems returns the settings of a stream that can lose a published message. An unsafe
// setting loses messages sooner or later. A warning is a setting that loses messages in
// some cases.
func problems(info *jetstream.StreamInfo, retryFor time.Duration) (unsafe, warnings []broker.Problem) {
	c := info.Config
	found := func(list *[]broker.Problem, is bool, setting string, value any, why string) {
		if is {
			*list = append(*list, broker.Problem{Setting: setting, Value: fmt.Sprint(value), Why: why})
		}
	}
	found(&unsafe, c.NoAck, "no_ack", true, "the server does not acknowledge whether a message is stored: set it to false")
	found(&unsafe, c.Sealed, "sealed", true, "the stream accepts no messages")
	found(&unsafe, c.Mirror != nil, "mirror", "set", "the stream only accepts messages of another stream: publish on that one")
	found(&unsafe, c.PersistMode == jetstream.AsyncPersistMode, "persist_mode", c.PersistMode,
		"the server acknowledges messages before it stores them, and loses them when it dies: set it to default")
	memory := c.Storage == jetstream.MemoryStorage
	found(&unsafe, memory && c.Replicas < 3, "storage", c.Storage, "a restart of the server loses all messages: use file storage")
	found(&warnings, memory && c.Replicas >= 3, "storage", c.Storage, "a restart of most servers at once loses all messages: use file storage")
	interest := c.Retention == jetstream.InterestPolicy
	found(&unsafe, interest && info.State.Consumers == 0, "retention", c.Retention,
		"the stream acknowledges and then drops a message that no consumer wants, and it has no consumers: create the consumers first, or use limits")
	found(&warnings, interest && info.State.Consumers > 0, "retention", c.Retention,
		"the stream acknowledges and then drops a message that no consumer wants: create all consumers first, or use limits")
	found(&warnings, c.Duplicates < retryFor, "duplicate_window", c.Duplicates,
		fmt.Sprintf("a publish that is repeated within %s may store the message twice: set the window to %[1]s", retryFor))
	old := c.Discard == jetstream.DiscardOld && c.Retention != jetstream.WorkQueuePolicy || c.MaxMsgsPerSubject > 0 && !c.DiscardNewPerSubject
	found(&warnings, old && c.MaxMsgs > 0, "max_msgs", c.MaxMsgs, mayDrop)
	found(&warnings, old && c.MaxBytes > 0, "max_bytes", c.MaxBytes, mayDrop)
	found(&warnings, c.MaxMsgsPerSubject > 0 && !c.DiscardNewPerSubject, "max_msgs_per_subject", c.MaxMsgsPerSubject, mayDrop)
	return unsafe, warnings
}

const mayDrop = "a full stream drops its oldest messages, even if a consumer does not have them yet: set discard to new, or make the stream large enough for the slowest consumer"
