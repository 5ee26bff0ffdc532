package message

import (
	"encoding/json"
	"unicode/utf8"
)

// Publish asks for a message to be published if, and only if, the transaction
// is confirmed.
type Publish struct {
	Subject string              // one that the stream carries, without wildcards
	Data    []byte              // the message
	Headers map[string][]string // names that begin with Nats- or Tccsaga- are not allowed
}

// Branch returns "message.publish".
func (Publish) Branch() string { return "message.publish" }

// stored is how the log holds a Publish: with its data as text where it is
// text, because people read the log.
type stored struct {
	Subject string              `json:"subject"`
	Text    *string             `json:"text,omitempty"`
	Data    []byte              `json:"data,omitempty"`
	Headers map[string][]string `json:"headers,omitempty"`
}

// MarshalJSON writes the data as "text" if it is UTF-8, and else, in base64, as
// "data".
func (p Publish) MarshalJSON() ([]byte, error) {
	s := stored{Subject: p.Subject, Headers: p.Headers}
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
	*p = Publish{Subject: s.Subject, Data: s.Data, Headers: s.Headers}
	if s.Text != nil {
		p.Data = []byte(*s.Text)
	}
	return nil
}
