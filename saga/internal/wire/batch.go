package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// Calls takes the place of the kind of branch in the address of a batch of calls. No kind has
// this name.
const Calls = "~calls"

// Barrier takes that place in the address of a question for barrier rows.
const Barrier = "~barrier"

// Limits of a batch.
const (
	MaxBatchCalls = 256
	MaxBatchBytes = 1 << 20 // of its body
)

// batchHead is the first line of the body of a batch. The bodies of the calls follow, one
// behind the other, so that every payload arrives byte by byte.
type batchHead struct {
	Calls []callHead `json:"calls"`
}

type callHead struct {
	GID      string `json:"gid"`
	BranchID string `json:"branch_id"`
	Op       string `json:"op"`
	Kind     string `json:"kind"`
	Caller   string `json:"caller,omitempty"`
	Payload  int    `json:"payload"`           // bytes
	Results  int    `json:"results,omitempty"` // bytes of the results of earlier branches
	Trace    string `json:"trace,omitempty"`   // trace context; an older host does not read it
}

// EncodeBatch returns the body of a batch of calls.
func EncodeBatch(calls []saga.Call) ([]byte, error) {
	var head batchHead
	var bodies bytes.Buffer
	for _, c := range calls {
		one := callHead{GID: c.GID, BranchID: c.BranchID, Op: string(c.Op), Kind: c.Kind, Caller: c.Caller, Payload: len(c.Payload), Trace: c.Trace}
		bodies.Write(c.Payload)
		if len(c.Results) > 0 {
			results, err := Marshal(c.Results)
			if err != nil {
				return nil, err
			}
			one.Results = len(results)
			bodies.Write(results)
		}
		head.Calls = append(head.Calls, one)
	}
	first, err := Marshal(head)
	if err != nil {
		return nil, err
	}
	return append(append(first, '\n'), bodies.Bytes()...), nil
}

// DecodeBatch reads the body of a batch. It does not check the calls.
func DecodeBatch(body []byte) (calls []saga.Call, err error) {
	first, rest, _ := bytes.Cut(body, []byte("\n"))
	var head batchHead
	if err := json.Unmarshal(first, &head); err != nil {
		return nil, fmt.Errorf("the first line is not the head of a batch: %w", err)
	}
	if n := len(head.Calls); n == 0 || n > MaxBatchCalls {
		return nil, fmt.Errorf("the batch has %d calls, 1 to %d are allowed", n, MaxBatchCalls)
	}
	take := func(n int) ([]byte, bool) {
		if n < 0 || n > len(rest) {
			return nil, false
		}
		part := rest[:n:n]
		rest = rest[n:]
		return part, true
	}
	for i, one := range head.Calls {
		c := saga.Call{GID: one.GID, BranchID: one.BranchID, Op: barrier.Op(one.Op), Kind: one.Kind, Caller: one.Caller, Attempt: 1, Trace: one.Trace}
		var all bool
		if c.Payload, all = take(one.Payload); !all {
			return nil, fmt.Errorf("the body ends before the payload of call %d", i)
		}
		results, all := take(one.Results)
		if !all {
			return nil, fmt.Errorf("the body ends before the results of call %d", i)
		}
		if len(results) > 0 {
			if err := json.Unmarshal(results, &c.Results); err != nil {
				return nil, fmt.Errorf("the results of call %d are not a JSON object: %w", i, err)
			}
		}
		calls = append(calls, c)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("the body has %d bytes more than its calls", len(rest))
	}
	return calls, nil
}

// EncodeAnswer returns the line that answers the call with a number in a batch. The code signs
// the status and the body, as the header of a single answer does; it is empty if the request is
// not signed.
func EncodeAnswer(number, status int, code string, body []byte) []byte {
	line := strconv.AppendInt(nil, int64(number), 10)
	line = strconv.AppendInt(append(line, ' '), int64(status), 10)
	line = append(append(append(line, ' '), code...), ' ')
	return append(append(line, bytes.TrimRight(body, "\n")...), '\n')
}

// DecodeAnswer reads the line that answers a call in a batch.
func DecodeAnswer(line []byte) (number, status int, code string, body []byte, err error) {
	first, rest, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	second, rest, _ := bytes.Cut(rest, []byte(" "))
	third, rest, all := bytes.Cut(rest, []byte(" "))
	if !all {
		return 0, 0, "", nil, errors.New("a line of the answer must have 4 parts")
	}
	if number, err = strconv.Atoi(string(first)); err != nil {
		return 0, 0, "", nil, fmt.Errorf("the number of a call: %w", err)
	}
	if status, err = strconv.Atoi(string(second)); err != nil || http.StatusText(status) == "" {
		return 0, 0, "", nil, fmt.Errorf("the status %q is unknown", Clip(string(second), 20))
	}
	return number, status, string(third), append(rest, '\n'), nil
}
