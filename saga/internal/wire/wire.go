// Package wire holds the HTTP convention of branch calls, which is DTM's:
//
//	POST url?gid=...&trans_type=tcc&branch_id=01&op=try
//
// The body is the payload, in JSON. The answer is 200 if the call is done, 409 if a
// Try is rejected for good, or if an ask finds that the Try was not committed, and 425
// if the call has not ended. After any other answer
// the result is unknown, and the call may be repeated. DTM also reads the words FAILURE
// and ONGOING, anywhere in the body of any answer, as 409 and 425.
//
// The answer of a host of package remote also names the call; see [Reply].
package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// The words that DTM looks for in an answer.
const (
	Success = "SUCCESS"
	Failure = "FAILURE"
	Ongoing = "ONGOING"
)

// TransType is DTM's name of the pattern.
const TransType = "tcc"

// Query returns the query of a branch call.
func Query(call saga.Call) url.Values {
	return url.Values{"gid": {call.GID}, "trans_type": {TransType}, "branch_id": {call.BranchID}, "op": {string(call.Op)}}
}

// Caller is the parameter of the query that names the calling engine. A DTM
// server does not send it.
const Caller = "caller"

// Results is the parameter of the query that says how many bytes at the end of the body are
// the results of earlier branches, a JSON object by branch id. A call without results does
// not have it. The rest of the body is the payload.
const Results = "results"

// MaxResults is the most bytes of the results of a call, with their branch ids.
const MaxResults = saga.MaxBranches * (saga.MaxResult + 64)

// Trace is the header with the trace context of a call, by the standard of the W3C. It is not
// signed. Each call in a batch names its own.
const Trace = "traceparent"

// Marshal returns the JSON of a value. It leaves <, > and & as they are: json.Marshal would
// write six bytes for each, and so make results longer than allowed.
func Marshal(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimRight(text.Bytes(), "\n"), nil
}

// Body returns the body of a call: its payload, and its results, if it has some. It sets the
// parameter of the query.
func Body(call saga.Call, query url.Values) ([]byte, error) {
	if len(call.Results) == 0 {
		return call.Payload, nil
	}
	results, err := Marshal(call.Results)
	if err != nil {
		return nil, err
	}
	query.Set(Results, strconv.Itoa(len(results)))
	return slices.Concat(call.Payload, results), nil
}

// Split returns the payload and the results in the body of a call.
func Split(body []byte, results string) (payload []byte, earlier map[string]json.RawMessage, err error) {
	if results == "" {
		return body, nil, nil
	}
	n, err := strconv.Atoi(results)
	if err != nil || n <= 0 || n > len(body) {
		return nil, nil, fmt.Errorf("the parameter %s is %q, and the body has %d bytes", Results, Clip(results, 20), len(body))
	}
	payload = body[:len(body)-n]
	if err := json.Unmarshal(body[len(body)-n:], &earlier); err != nil {
		return nil, nil, fmt.Errorf("the results are not a JSON object: %w", err)
	}
	return payload, earlier, nil
}

// maxCaller is the most characters of a caller's name. A participant puts one more
// before the name in its barrier rows.
const maxCaller = barrier.MaxCaller - 1

// CheckCaller returns an error that says what is wrong with the name of a caller, or
// nil. The name is empty if the caller does not name itself.
func CheckCaller(caller string) error {
	switch {
	case len(caller) > maxCaller:
		return fmt.Errorf("the caller %q has %d characters, %d are allowed", Clip(caller, 20), len(caller), maxCaller)
	case strings.ContainsFunc(caller, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }):
		return fmt.Errorf("the caller %q may hold printable ASCII characters only, without spaces and slashes", caller)
	}
	return nil
}

// Reply is the body of an answer. DTM reads only the Result.
type Reply struct {
	Result   string  `json:"dtm_result,omitempty"`
	Code     string  `json:"code,omitempty"`     // of a Rejection
	Message  string  `json:"message,omitempty"`  // for people
	Conflict bool    `json:"conflict,omitempty"` // the call contradicts the barrier row
	ErrorID  string  `json:"error_id,omitempty"` // finds the error in the log of the host
	Answers  *Answer `json:"answers,omitempty"`  // the call, if the request had an id

	Returned json.RawMessage `json:"returned,omitempty"` // the result of the branch, if the request had an id
}

// Answer names the call that a [Reply] answers.
type Answer struct {
	GID      string `json:"gid"`
	BranchID string `json:"branch_id"`
	Op       string `json:"op"`
	Request  string `json:"request"` // the id of the request
}

// Encode returns the body of an answer with a status. It shortens the message. If the
// request had no id, it may be of a DTM server: then Encode takes DTM's words out of the
// message and the code.
func (r Reply) Encode(status int) []byte {
	switch status {
	case http.StatusOK:
		r.Result = Success
	case http.StatusConflict:
		r.Result = Failure
	case http.StatusTooEarly:
		r.Result = Ongoing
	}
	if r.onlyDone() {
		if body, plain := AppendDone(nil, *r.Answers); plain {
			return body
		}
	}
	if r.Answers == nil {
		r.Code, r.Message = Plain(r.Code), Plain(r.Message)
	}
	r.Message = Clip(r.Message, maxMessage)
	body, err := Marshal(r)
	if err != nil {
		panic(err) // a struct of strings, and a result that was checked
	}
	return append(body, '\n')
}

// onlyDone reports whether the answer says no more than that the call is done.
func (r Reply) onlyDone() bool {
	return r.Result == Success && r.Answers != nil && r.Code+r.Message+r.ErrorID == "" && !r.Conflict && r.Returned == nil
}

// AppendDone appends what [Reply.Encode] returns for a call that is done and has no result. It
// returns false if the call has a character that JSON escapes. Most answers are so, and nearly
// all of the work of a small call would be the JSON of its answer.
func AppendDone(text []byte, a Answer) (done []byte, plain bool) {
	text = append(text, `{"dtm_result":"`+Success+`","answers":{"gid":"`...)
	for i, part := range [...]string{a.GID, a.BranchID, a.Op, a.Request} {
		if strings.ContainsFunc(part, escaped) {
			return text, false
		}
		text = append(text, part...)
		text = append(text, [...]string{`","branch_id":"`, `","op":"`, `","request":"`, "\"}}\n"}[i]...)
	}
	return text, true
}

func escaped(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }

// WriteBody answers with a status and an encoded [Reply].
func WriteBody(w http.ResponseWriter, status int, body []byte) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(body)
}

// Plain returns text without DTM's words, so that nobody reads it as a result.
func Plain(text string) string { return results.Replace(text) }

var results = strings.NewReplacer(Failure, "failure", Ongoing, "ongoing")

// maxMessage keeps the whole answer below 1,024 characters: a DTM server stores it as
// the reason of a rollback.
const maxMessage = 500

// Clip shortens text to at most n bytes, without cutting a character in two, and
// replaces control characters.
func Clip(text string, n int) string {
	const more = "…"
	if len(text) > n {
		n -= len(more)
		for n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
		text = text[:n] + more
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}

// Message returns the text of an answer for people.
func Message(body []byte) string {
	var reply struct{ Message, Error string }
	if json.Unmarshal(body, &reply) == nil && reply.Message+reply.Error != "" {
		return Clip(reply.Message+reply.Error, maxMessage)
	}
	return Clip(strings.TrimSpace(string(body)), maxMessage)
}
