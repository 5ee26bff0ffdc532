package remote

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// maxLogged is the most bytes of an error in a log line. maxShown is the most bytes of a
// part of a request.
const maxLogged, maxShown = 2000, 200

// answer writes the answer to a request with the outcome err. It passes on the texts of
// the branch. The text of any other error goes to the log, with an error id that the
// answer has too.
func (x *exchange) answer(err error) {
	status, reply := x.reply(err)
	header := x.w.Header()
	switch status {
	case http.StatusMethodNotAllowed:
		header.Set("Allow", http.MethodPost)
	case http.StatusServiceUnavailable:
		header.Set("Retry-After", "1")
	}
	if !x.read {
		x.dropBody()
	}
	x.name(&reply, err)
	x.signed.write(x.w, status, reply.Encode(status))
}

// name adds the call to its answer, and the result, if the request has an id.
func (x *exchange) name(reply *wire.Reply, err error) {
	if x.id == "" {
		return
	}
	if err == nil {
		reply.Returned = x.result
	}
	reply.Answers = &wire.Answer{GID: wire.Clip(x.call.GID, maxShown), BranchID: wire.Clip(x.call.BranchID, maxShown),
		Op: wire.Clip(string(x.call.Op), maxShown), Request: x.id}
}

// write writes an answer, signed if the request was.
func (s *signature) write(w http.ResponseWriter, status int, body []byte) {
	if s != nil {
		w.Header().Set(headerAnswer, s.answerCode(status, body))
	}
	wire.WriteBody(w, status, body)
}

// dropBody keeps the server from waiting for the rest of a body, before and after the
// answer, to find the next request behind it.
func (x *exchange) dropBody() {
	if x.r.ProtoMajor == 1 { // HTTP/2 resets only the stream
		x.w.Header().Set("Connection", "close")
	}
	_ = http.NewResponseController(x.w).SetReadDeadline(time.Now())
}

// reply returns the answer to a request with the outcome err.
func (x *exchange) reply(err error) (status int, reply wire.Reply) {
	if err == nil {
		return http.StatusOK, reply
	}
	status = statusOf(x.call.Op, err)
	var rejection *saga.Rejection
	var refused *refusal
	var public interface{ Public() string }
	switch {
	case errors.As(err, &refused):
		reply.Message = refused.why
		x.logRefused(status, err)
		return status, reply
	case errors.Is(err, errSignature):
		reply.Message = errSignature.Error()
		x.logRefused(status, err)
		return status, reply
	case status == http.StatusConflict && errors.As(err, &rejection):
		reply.Code, reply.Message = rejection.Code, rejection.Error()
		return status, reply
	case status == http.StatusConflict && x.call.Op == barrier.Ask:
		reply.Message = saga.ErrNotCommitted.Error()
		return status, reply
	case status == http.StatusConflict:
		reply.Message = barrier.ErrSuspended.Error()
		return status, reply
	case status == http.StatusNotFound:
		reply.Message = fmt.Sprintf("the kind of branch %q is not registered here", wire.Clip(x.call.Kind, 80))
		return status, reply
	case errors.Is(err, barrier.ErrConflict): // its text is the barrier's
		reply.Conflict, reply.Message = true, err.Error()
	case errors.As(err, &public):
		reply.Message = public.Public()
	case status == http.StatusTooEarly:
		reply.Message = "the call is not at its end"
	case status == http.StatusServiceUnavailable:
		reply.Message = "the call took too long, or was interrupted"
	default:
		reply.Message = "the call failed"
	}
	reply.ErrorID = newErrorID()
	reply.Message = wire.Clip(reply.Message, 400) + "; the log of the host has more, with the error id " + reply.ErrorID
	x.logFailed(reply.ErrorID, err)
	return status, reply
}

func newErrorID() string {
	id := make([]byte, 6)
	rand.Read(id)
	return hex.EncodeToString(id)
}

func (x *exchange) logFailed(id string, err error) {
	x.host.config.Logger.Warn("remote: a branch call failed", slog.String("error_id", id), slog.String("gid", x.call.GID),
		slog.String("branch", x.call.BranchID), slog.String("kind", x.call.Kind), slog.String("operation", string(x.call.Op)),
		slog.String("caller", x.call.Caller), slog.String("error", wire.Clip(err.Error(), maxLogged)))
}

// logRefused logs a refused request. Its content is not checked.
func (x *exchange) logRefused(status int, err error) {
	x.host.refused.log(x.host.config.Logger, x.r, status, err)
}

// log logs a refused request, or counts it.
func (r *refusals) log(logger *slog.Logger, request *http.Request, status int, err error) {
	missed, log := r.next(time.Now())
	if !log {
		return
	}
	logger.Warn("remote: a request was refused", slog.Int("status", status), slog.String("from", wire.Clip(request.RemoteAddr, maxShown)),
		slog.String("path", wire.Clip(request.URL.Path, maxShown)), slog.String("error", wire.Clip(err.Error(), maxLogged)), slog.Int64("more_like_it", missed))
}

// statusOf returns the status for a call that is not done. A Confirm or Cancel is never
// answered 409, because it cannot reject anything.
func statusOf(op barrier.Op, err error) int {
	var rejection *saga.Rejection
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		return refused.status
	case errors.Is(err, errSignature):
		return http.StatusUnauthorized
	case op == barrier.Try && (errors.As(err, &rejection) || errors.Is(err, barrier.ErrSuspended)):
		return http.StatusConflict
	case op == barrier.Ask && errors.Is(err, saga.ErrNotCommitted):
		return http.StatusConflict
	case errors.Is(err, barrier.ErrConflict):
		return http.StatusInternalServerError
	case errors.Is(err, saga.ErrUnknownKind):
		return http.StatusNotFound
	case errors.Is(err, saga.ErrInvalid):
		return http.StatusBadRequest
	case errors.Is(err, saga.ErrOngoing):
		return http.StatusTooEarly
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}
