package natsjs

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// problems returns the settings of a stream with which a published message may
// be lost: unsafe with those that lose it for certain in the course of time, and
// warnings with those that lose it in some case.
func problems(info *jetstream.StreamInfo, retryFor time.Duration) (unsafe, warnings []broker.Problem) {
	c := info.Config
	found := func(list *[]broker.Problem, is bool, setting string, value any, why string) {
		if is {
			*list = append(*list, broker.Problem{Setting: setting, Value: fmt.Sprint(value), Why: why})
		}
	}
	found(&unsafe, c.NoAck, "no_ack", true, "the server acknowledges nothing, so that nobody knows whether a message is stored: set it to false")
	found(&unsafe, c.Sealed, "sealed", true, "it takes no message")
	found(&unsafe, c.Mirror != nil, "mirror", "set", "it takes messages of another stream only: publish there")
	found(&unsafe, c.PersistMode == jetstream.AsyncPersistMode, "persist_mode", c.PersistMode,
		"the server acknowledges messages that it loses when it dies: set it to default")
	memory := c.Storage == jetstream.MemoryStorage
	found(&unsafe, memory && c.Replicas < 3, "storage", c.Storage, "a restart of the server loses all messages: use file storage")
	found(&warnings, memory && c.Replicas >= 3, "storage", c.Storage, "a restart of most servers at once loses all messages: use file storage")
	interest := c.Retention == jetstream.InterestPolicy
	found(&unsafe, interest && info.State.Consumers == 0, "retention", c.Retention,
		"the stream has no consumer, and drops each message for which no consumer exists, after it has acknowledged it: create the consumers first, or use limits")
	found(&warnings, interest && info.State.Consumers > 0, "retention", c.Retention,
		"the stream drops each message for which no consumer exists, after it has acknowledged it: create all consumers first, or use limits")
	found(&warnings, c.Duplicates < retryFor, "duplicate_window", c.Duplicates,
		fmt.Sprintf("a publish that is repeated within %s may store the message a second time: make it that long", retryFor))
	old := c.Discard == jetstream.DiscardOld && c.Retention != jetstream.WorkQueuePolicy || c.MaxMsgsPerSubject > 0 && !c.DiscardNewPerSubject
	found(&warnings, old && c.MaxMsgs > 0, "max_msgs", c.MaxMsgs, mayDrop)
	found(&warnings, old && c.MaxBytes > 0, "max_bytes", c.MaxBytes, mayDrop)
	found(&warnings, c.MaxMsgsPerSubject > 0 && !c.DiscardNewPerSubject, "max_msgs_per_subject", c.MaxMsgsPerSubject, mayDrop)
	return unsafe, warnings
}

const mayDrop = "a stream that is full drops its oldest messages, also those that a consumer does not have yet: set discard to new, or make it larger than what a consumer may be behind"
