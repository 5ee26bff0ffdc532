package message

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// Publish is the payload of the branch: a message that is published if, and only if, the
// transaction is confirmed.
type Publish struct {
	// Subject to publish on. The stream has to carry it. No wildcards.
	Subject string

	// Data is the content of the message.
	Data []byte

	// Headers of the message. Names that begin with Tccsaga- are reserved. The
	// broker may refuse headers that it defines itself; see package natsjs.
	Headers map[string][]string

	// Key orders messages. Messages of one stream with the same Key are published
	// in the order in which their transactions are decided. With an empty Key there
	// is no order between transactions. A Key has at most 200 bytes, and needs the
	// outbox in the engine's database. See the package documentation.
	Key string

	// After delays the message. It is published this long after its Confirm, or up
	// to about a second later, by the clock of the outbox's database. The
	// transaction is confirmed without waiting. With zero, the message is published
	// at once. At most ten years. A delayed message has no order, and no Key.
	After time.Duration

	// Kind is the kind of branch that publishes the message. Empty means the
	// default publisher; see [Config.Kind].
	Kind string
}

// DefaultKind is the kind of branch of a [Publisher] without a [Config.Kind].
const DefaultKind = "message.publish"

// Branch returns the kind of branch: Kind, or else [DefaultKind].
func (p Publish) Branch() string {
	if p.Kind != "" {
		return p.Kind
	}
	return DefaultKind
}

// stored is the form of a Publish in the log. Data that are text stay text, because people
// read the log.
type stored struct {
	Subject string              `json:"subject"`
	Text    *string             `json:"text,omitempty"`
	Data    []byte              `json:"data,omitempty"`
	Headers map[string][]string `json:"headers,omitempty"`
	Key     string              `json:"key,omitempty"`
	After   string              `json:"after,omitempty"` // such as 1h30m0s
	Kind    string              `json:"kind,omitempty"`
}

// MarshalJSON writes UTF-8 data as "text", and other data in base64 as "data".
func (p Publish) MarshalJSON() ([]byte, error) {
	s := stored{Subject: p.Subject, Headers: p.Headers, Key: p.Key, Kind: p.Kind}
	if p.After != 0 {
		s.After = p.After.String()
	}
	if utf8.Valid(p.Data) {
		text := string(p.Data)
		s.Text = &text
	} else {
		s.Data = p.Data
	}
	return json.Marshal(s)
}

// UnmarshalJSON reads what MarshalJSON has written.
func (p *Publish) UnmarshalJSON(text []byte) error {
	var s stored
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	*p = Publish{Subject: s.Subject, Data: s.Data, Headers: s.Headers, Key: s.Key, Kind: s.Kind}
	if s.Text != nil {
		p.Data = []byte(*s.Text)
	}
	if s.After != "" {
		after, err := time.ParseDuration(s.After)
		if err != nil {
			return fmt.Errorf("the field after: %w", err)
		}
		p.After = after
	}
	return nil
}
