package natsjs

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// validHeader matches the names of headers that the NATS client sends. It silently drops
// headers with other names.
var validHeader = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// headerRules says which headers the messages of a stream may have.
type headerRules struct {
	stream   string
	allowTTL bool
}

// check returns the reason why a message cannot have its headers.
func (r headerRules) check(headers map[string][]string) error {
	for name, values := range headers {
		if !validHeader.MatchString(name) {
			return fmt.Errorf("%w: the header name %.80q has other characters than letters, digits and !#$%%&'*+-.^_`|~", broker.ErrInvalid, name)
		}
		for _, value := range values {
			if strings.ContainsAny(value, "\r\n") {
				return fmt.Errorf("%w: the header %s holds a line break", broker.ErrInvalid, name)
			}
		}
		if strings.HasPrefix(strings.ToLower(name), "nats-") {
			if err := r.checkNATS(name, values); err != nil {
				return fmt.Errorf("%w: the header %s is not allowed: %w", broker.ErrInvalid, name, err)
			}
		}
	}
	return nil
}

// checkNATS returns the reason why a message cannot have a header that NATS defines. The
// server accepts these names in any case, and acts on them.
func (r headerRules) checkNATS(name string, values []string) error {
	is := func(header string) bool { return strings.EqualFold(name, header) }
	switch {
	case is(jetstream.MsgTTLHeader):
		return r.checkTTL(name, values)
	case is(jetstream.ExpectedStreamHeader):
		if name != jetstream.ExpectedStreamHeader || len(values) != 1 || values[0] != r.stream {
			return fmt.Errorf("the stream is %s", r.stream)
		}
		return nil
	case is(jetstream.MsgIDHeader):
		return errors.New("the publisher sets the id of every message")
	case strings.HasPrefix(strings.ToLower(name), "nats-expected-"):
		return errors.New("a message is published after the decision, when it can no longer be refused; and the server would refuse a repetition although the message is stored")
	case is(jetstream.MsgRollup):
		return errors.New("it removes messages that consumers may not have yet, and a repetition would remove later messages")
	case strings.HasPrefix(strings.ToLower(name), "nats-schedule"):
		return errors.New("a schedule replaces an earlier one on its subject, and the earlier message is lost: use Publish.After, which works with every broker")
	default:
		return errors.New("it is reserved: NATS gives a meaning to names that begin with Nats-")
	}
}

// checkTTL returns the reason why a message cannot have a time to live. The server would
// refuse the message each time.
func (r headerRules) checkTTL(name string, values []string) error {
	switch {
	case name != jetstream.MsgTTLHeader || len(values) != 1:
		return fmt.Errorf("write it as %s, and only once", jetstream.MsgTTLHeader)
	case !r.allowTTL:
		return fmt.Errorf("the stream %s has allow_msg_ttl off: turn it on, which needs NATS 2.11 or newer", r.stream)
	}
	value := values[0]
	if value == "never" {
		return nil
	}
	ttl, err := time.ParseDuration(value)
	if seconds, number := strconv.ParseUint(value, 10, 31); number == nil {
		ttl, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || ttl < time.Second {
		return fmt.Errorf("%.40q is not valid: use never, a number of seconds, or a duration of a second or more, such as 1h30m", value)
	}
	return nil
}
