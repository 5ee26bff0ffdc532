package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

const transType = wire.TransType

// request is a request of a client.
type request struct {
	gid            string
	timeout        time.Duration
	waitResult     bool
	rollbackReason string
	branchID       string
	branch         branch

	leave func() // gives the place to another request before this one ends
}

// use says how the API treats a field.
type use int

const (
	ignored use = iota // it has no meaning for TCC, neither in the API nor on a DTM server
	implemented
	refused // unless it is empty, 0 or false
)

// fields has all fields of a DTM server, and some that its clients send. The table in
// doc.go is the same.
var fields = map[string]use{
	"gid": implemented, "trans_type": implemented, "protocol": implemented,
	"timeout_to_fail": implemented, "wait_result": implemented, "rollback_reason": implemented,
	"branch_id": implemented, "data": implemented, "confirm": implemented, "cancel": implemented,

	"request_timeout": refused, "retry_interval": refused, "retry_limit": refused, "retry_count": refused, "concurrent": refused,
	"branch_headers": refused, "custom_data": refused, "query_prepared": refused, "payloads": refused, "steps": refused,
	"req_extra": refused, "result": refused, "url": refused, "op": refused, "sync": refused,

	"try": ignored, "status": ignored, "sub_type": ignored, "id": ignored, "options": ignored,
	"owner": ignored, "ext_data": ignored, "create_time": ignored, "update_time": ignored,
	"finish_time": ignored, "rollback_time": ignored, "next_cron_interval": ignored, "next_cron_time": ignored,
}

// maxFields is the most fields of a request.
const maxFields = 64

// defaultTimeout is the timeout of a transaction that gives none, as on a DTM server.
const defaultTimeout = 35 * time.Second

func invalid(format string, arguments ...any) error {
	return fmt.Errorf("%w: %w", saga.ErrInvalid, fmt.Errorf(format, arguments...))
}

// queryOf reads the query of a GET, which has a gid.
func queryOf(r *http.Request, config Config) (*request, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("the query of the request: %w", err)
	}
	if n := len(query["gid"]); n != 1 {
		return nil, invalid("the query of the request names %d gids, 1 is needed", n)
	}
	in := &request{gid: query.Get("gid")}
	return in, in.checkGID(config)
}

// parseRequest reads the body of a POST.
func parseRequest(body []byte, config Config) (*request, error) {
	sent, err := parseFields(body)
	if err != nil {
		return nil, err
	}
	in := &request{}
	var sentType, protocol string
	var seconds int64
	for _, f := range []struct {
		name string
		to   any
	}{
		{"gid", &in.gid}, {"trans_type", &sentType}, {"protocol", &protocol}, {"timeout_to_fail", &seconds},
		{"wait_result", &in.waitResult}, {"rollback_reason", &in.rollbackReason}, {"branch_id", &in.branchID},
		{"data", &in.branch.Data}, {"confirm", &in.branch.Confirm}, {"cancel", &in.branch.Cancel},
	} {
		raw := sent[f.name]
		if raw == nil {
			continue
		}
		if err := json.Unmarshal(raw, f.to); err != nil {
			return in, invalid("%s is %s, which is not a valid value", f.name, wire.Clip(string(raw), 40))
		}
	}
	switch {
	case sentType != transType:
		return in, invalid("the trans_type is %q: this server has %s only", wire.Clip(sentType, 40), transType)
	case protocol != "" && protocol != "http":
		return in, invalid("the protocol is %q: this server has http only", wire.Clip(protocol, 40))
	case seconds < 0 || seconds > int64(config.MaxTimeout/time.Second):
		return in, invalid("timeout_to_fail is %d seconds, it must be between 0 and %d", seconds, config.MaxTimeout/time.Second)
	}
	in.timeout = time.Duration(seconds) * time.Second
	if seconds == 0 {
		in.timeout = min(defaultTimeout, config.MaxTimeout)
	}
	return in, in.checkGID(config)
}

// checkGID also refuses semicolons: DTM's clients remove them from a query, so a branch
// would get another gid.
func (in *request) checkGID(config Config) error {
	if err := barrier.ValidateGID(in.gid); err != nil {
		return invalid("%w", err)
	}
	if strings.Contains(in.gid, ";") {
		return invalid("the gid %q holds a semicolon, which DTM's clients remove", in.gid)
	}
	if !strings.HasPrefix(in.gid, config.GIDPrefix) {
		return invalid("the gid %q does not begin with %q, as all gids of this server do", in.gid, config.GIDPrefix)
	}
	return nil
}

// checkBranch checks the fields that only a registration has.
func (in *request) checkBranch(config Config) error {
	if err := (barrier.Key{GID: in.gid, BranchID: in.branchID}).Validate(); err != nil {
		return invalid("%w", err)
	}
	if strings.Contains(in.branchID, ";") {
		return invalid("the branch_id %q holds a semicolon, which DTM's clients remove", in.branchID)
	}
	if n := len(in.branch.Data); n > config.MaxData {
		return invalid("the data of the branch has %d bytes, %d are allowed", n, config.MaxData)
	}
	return nil
}

// parseFields reads a JSON object strictly, so that every reader sees the same, and
// refuses the fields that are not supported.
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
		if err := checkField(sent, name.(string), value); err != nil {
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

func checkField(sent map[string]json.RawMessage, name string, value json.RawMessage) error {
	if len(sent) == maxFields {
		return invalid("the request has more than %d fields", maxFields)
	}
	for other := range sent {
		if strings.EqualFold(other, name) {
			return invalid("the request has the field %q twice", wire.Clip(name, 40))
		}
	}
	treatment, known := fields[name]
	if !known {
		for other := range fields {
			if strings.EqualFold(other, name) {
				return invalid("the field %q is written %s", wire.Clip(name, 40), other)
			}
		}
		return nil // a DTM server ignores it too
	}
	if treatment == refused && !isEmpty(value) {
		return invalid("the field %s is not supported by this server: leave it out", name)
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
