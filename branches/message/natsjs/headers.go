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

// validHeader matches the names that the NATS client sends: it leaves out a
// header with any other, and says nothing.
var validHeader = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// checkHeaders says why a message cannot have its headers.
func (s *stream) checkHeaders(headers map[string][]string) error {
	for name, values := range headers {
		if !validHeader.MatchString(name) {
			return fmt.Errorf("%w: the header name %.80q is reserved, or has other characters than letters, digits and !#$%%&'*+-.^_`|~", broker.ErrInvalid, name)
		}
		for _, value := range values {
			if strings.ContainsAny(value, "\r\n") {
				return fmt.Errorf("%w: the header %s holds a line break", broker.ErrInvalid, name)
			}
		}
		if strings.HasPrefix(strings.ToLower(name), "nats-") {
			if err := s.checkNATS(name, values); err != nil {
				return fmt.Errorf("%w: the header %s is not possible: %w", broker.ErrInvalid, name, err)
			}
		}
	}
	return nil
}

// checkNATS says why a message cannot have a header that NATS defines. The server
// takes these names in any case, and acts on them.
func (s *stream) checkNATS(name string, values []string) error {
	is := func(header string) bool { return strings.EqualFold(name, header) }
	switch {
	case is(jetstream.MsgTTLHeader):
		return s.checkTTL(name, values)
	case is(jetstream.ExpectedStreamHeader):
		if name != jetstream.ExpectedStreamHeader || len(values) != 1 || values[0] != s.info.Name {
			return fmt.Errorf("the stream is %s", s.info.Name)
		}
		return nil
	case is(jetstream.MsgIDHeader):
		return errors.New("the publisher gives every message an id of its own")
	case strings.HasPrefix(strings.ToLower(name), "nats-expected-"):
		return errors.New("the message is published after the decision, when it can no longer be refused; and a repetition would be refused although the message is stored")
	case is(jetstream.MsgRollup):
		return errors.New("it removes messages that consumers may not have, and a repetition would remove later ones")
	case strings.HasPrefix(strings.ToLower(name), "nats-schedule"):
		return errors.New("a schedule replaces an earlier one on its subject, which would be lost: use Publish.After, which needs no broker that has schedules")
	default:
		return errors.New("it is reserved: NATS gives names with Nats- a meaning")
	}
}

// checkTTL says why a message cannot have a time to live. The server would refuse
// it each time.
func (s *stream) checkTTL(name string, values []string) error {
	switch {
	case name != jetstream.MsgTTLHeader || len(values) != 1:
		return fmt.Errorf("write it %s, once", jetstream.MsgTTLHeader)
	case !s.config.AllowMsgTTL:
		return fmt.Errorf("the stream %s has allow_msg_ttl off: set it, which needs NATS 2.11 or newer", s.info.Name)
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
		return fmt.Errorf("%.40q is neither never, nor a number of seconds, nor a duration of a second or more, such as 1h30m", value)
	}
	return nil
}
