package remote

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

const (
	// maxBarrierQuestions is the most questions for barrier rows that a host answers at the
	// same time. They take no slots of calls.
	maxBarrierQuestions = 16

	// barrierTimeout bounds the read of barrier rows in a host.
	barrierTimeout = 5 * time.Second

	// maxBarrierReply is the most bytes of an answer with barrier rows. It has room for those
	// of saga.MaxBranches branches.
	maxBarrierReply = 256 << 10
)

// barrierReply is the body of an answer to a question for barrier rows. It names the question.
type barrierReply struct {
	Caller  string       `json:"caller"`
	GID     string       `json:"gid"`
	Request string       `json:"request"`        // the id of the request
	Rows    []barrierRow `json:"rows,omitempty"` // with 200
	questionFailure
}

// barrierRow is a barrier row in an answer.
type barrierRow struct {
	barrier.Row
	Left int64 `json:"call_left,omitempty"` // microseconds until the latest end of the call under way
}

// asksForBarrier reports whether a request asks for barrier rows, and is not a call.
func asksForBarrier(r *http.Request) bool {
	sent, err := sentURL(r)
	return err == nil && strings.HasSuffix(sent.EscapedPath(), "/"+wire.Barrier)
}

// serveBarrier answers one question; see "Barrier rows" in the documentation of the package.
func (h *Host) serveBarrier(w http.ResponseWriter, r *http.Request) {
	question, err := h.verifier.readHead(r, h.now())
	if err == nil {
		err = checkQuestion(r, question, http.MethodPost)
	}
	var rows []barrier.Row
	if err == nil {
		rows, err = h.barrierOf(r.Context(), question.query.Get("gid"), question.query.Get(wire.Caller))
	}
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close") // the body is not read
	}
	status, reply := h.barrierReply(question, r, err)
	for _, row := range rows {
		one := barrierRow{Row: row}
		if row.UnderWay != nil {
			one.Left = row.UnderWay.Left.Microseconds()
		}
		reply.Rows = append(reply.Rows, one)
	}
	body, err := wire.Marshal(reply)
	if err != nil {
		panic(err) // texts and times of the database
	}
	question.signed.write(w, status, body)
}

// barrierOf reads barrier rows.
func (h *Host) barrierOf(ctx context.Context, gid, caller string) ([]barrier.Row, error) {
	select {
	case h.questions <- struct{}{}:
		defer func() { <-h.questions }()
	default:
		return nil, &refusal{http.StatusServiceUnavailable, "there are too many questions now"}
	}
	ctx, cancel := context.WithTimeout(ctx, barrierTimeout)
	defer cancel()
	return h.BarrierOf(ctx, gid, caller)
}

// barrierReply returns the answer to a question with the error err, without the rows.
func (h *Host) barrierReply(question head, r *http.Request, err error) (status int, reply barrierReply) {
	reply = barrierReply{Caller: wire.Clip(question.query.Get(wire.Caller), maxShown), GID: wire.Clip(question.query.Get("gid"), maxShown), Request: question.id}
	if err == nil {
		return http.StatusOK, reply
	}
	status, failed, known := failedQuestion(&h.refused, h.config.Logger, r, "the barrier", reply.GID, err)
	if !known {
		return status, barrierReply{questionFailure: failed}
	}
	reply.questionFailure = failed
	return status, reply
}
