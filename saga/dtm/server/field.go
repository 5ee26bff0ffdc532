package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// use says how the API treats a field.
type use int

const (
	ignored use = iota // it has no meaning, neither in the API nor on a DTM server
	implemented
	refused // unless it is empty, 0 or false
)

// uses are the use of a field for each type of transaction.
type uses [numTypes]use

var (
	all      = uses{implemented, implemented, implemented, implemented}
	none     = uses{refused, refused, refused, refused}
	nothing  = uses{}
	forTCC   = uses{tcc: implemented, sagas: refused, msg: refused, xa: refused}
	forXA    = uses{tcc: refused, sagas: refused, msg: refused, xa: implemented}
	forSaga  = uses{tcc: refused, sagas: implemented, msg: refused, xa: refused}
	forSteps = uses{tcc: refused, sagas: implemented, msg: implemented, xa: refused}
	forMsg   = uses{tcc: refused, sagas: refused, msg: implemented, xa: refused}
	forOpen  = uses{tcc: implemented, sagas: refused, msg: refused, xa: implemented}
	forAbort = uses{tcc: implemented, sagas: refused, msg: implemented, xa: implemented}
)

// fields has all fields of a DTM server, and some that its clients send. The table in
// doc.go is the same.
var fields = map[string]uses{
	"gid": all, "trans_type": all, "protocol": all, "timeout_to_fail": all, "wait_result": all,
	"request_timeout": all, "retry_interval": all, "branch_headers": all, "concurrent": all,

	"rollback_reason": forAbort, "branch_id": forOpen, "data": forTCC, "confirm": forTCC, "cancel": forTCC, "url": forXA,
	"steps": forSteps, "payloads": forSteps, "custom_data": forSaga, "retry_limit": forSaga, "query_prepared": forMsg,

	"retry_count": none, "req_extra": none, "result": none, "op": none, "sync": none,

	"try": nothing, "status": nothing, "sub_type": nothing, "id": nothing, "options": nothing,
	"owner": nothing, "ext_data": nothing, "create_time": nothing, "update_time": nothing,
	"finish_time": nothing, "rollback_time": nothing, "next_cron_interval": nothing, "next_cron_time": nothing,
}

// maxFields is the most fields of a request.
const maxFields = 64

// parseFields reads a JSON object strictly, so that every reader sees the same.
func parseFields(body []byte) (map[string]json.RawMessage, error) {
	switch {
	case !utf8.Valid(body):
		return nil, invalid("the request is not UTF-8")
	case hasLoneSurrogate(body):
		return nil, invalid("the request holds half of a character: an escaped surrogate without its pair")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return nil, invalid("the request is not a JSON object")
	}
	sent := make(map[string]json.RawMessage)
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, invalid("the request is not JSON: %w", err)
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, invalid("the request is not JSON: %w", err)
		}
		if err := checkName(sent, name.(string)); err != nil {
			return nil, err
		}
		sent[name.(string)] = value
	}
	if _, err := decoder.Token(); err != nil {
		return nil, invalid("the request is not JSON: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, invalid("the request has something after the JSON object")
	}
	return sent, nil
}

func checkName(sent map[string]json.RawMessage, name string) error {
	if len(sent) == maxFields {
		return invalid("the request has more than %d fields", maxFields)
	}
	for other := range sent {
		if strings.EqualFold(other, name) {
			return invalid("the request has the field %q twice", wire.Clip(name, 40))
		}
	}
	if _, known := fields[name]; known {
		return nil
	}
	for other := range fields {
		if strings.EqualFold(other, name) {
			return invalid("the field %q is written %s", wire.Clip(name, 40), other)
		}
	}
	return nil // a DTM server ignores it too
}

// checkUses refuses the fields that are not supported for a type of transaction.
func checkUses(sent map[string]json.RawMessage, t transType) error {
	for name, value := range sent {
		treatment, known := fields[name]
		if !known || treatment[t] != refused || isEmpty(value) {
			continue
		}
		if treatment == none {
			return invalid("the field %s is not supported by this server: leave it out", name)
		}
		return invalid("the field %s is not supported for the trans_type %s: leave it out", name, t)
	}
	return nil
}

// isEmpty reports whether value is null, false, 0 or empty. It decodes nothing else.
func isEmpty(value json.RawMessage) bool {
	value = bytes.TrimSpace(value)
	switch value[0] {
	case 'n', 'f': // null, false
		return true
	case 't':
		return false
	case '"', '[', '{':
		return len(bytes.TrimSpace(value[1:len(value)-1])) == 0 && (value[0] != '"' || len(value) == 2)
	default:
		var n float64
		return json.Unmarshal(value, &n) == nil && n == 0
	}
}

// hasLoneSurrogate reports whether body has an escape that encoding/json would replace
// silently.
func hasLoneSurrogate(body []byte) bool {
	for i := 0; i < len(body); i++ {
		if body[i] != '\\' {
			continue
		}
		r := escapedRune(body[i:])
		if r < 0 || !utf16.IsSurrogate(r) {
			i++ // the escaped character may be a backslash
			continue
		}
		if i+6 > len(body) || utf16.DecodeRune(r, escapedRune(body[i+6:])) == utf8.RuneError {
			return true
		}
		i += 11
	}
	return false
}

// escapedRune decodes \uXXXX; -1 if there is none.
func escapedRune(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range text[2:6] {
		digit := bytes.IndexByte([]byte("0123456789abcdef"), c|0x20)
		if digit < 0 {
			return -1
		}
		r = r<<4 | rune(digit)
	}
	return r
}
