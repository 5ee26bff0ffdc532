package remote

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// questionFailure is the part of an answer that says why a question has no other one.
type questionFailure struct {
	Message string `json:"message,omitempty"`
	ErrorID string `json:"error_id,omitempty"` // finds the error in the log of the service
}

// failedQuestion returns the status and the answer to a question with the error err, and logs
// the error. What could not be read is for the text. Known is false if the sender has not
// signed: the answer then names nothing else.
func failedQuestion(refused *refusals, logger *slog.Logger, r *http.Request, what, gid string, err error) (status int, failed questionFailure, known bool) {
	var refusal *refusal
	switch {
	case errors.As(err, &refusal):
		refused.log(logger, r, refusal.status, err)
		return refusal.status, questionFailure{Message: refusal.why}, true
	case errors.Is(err, errSignature):
		refused.log(logger, r, http.StatusUnauthorized, err)
		return http.StatusUnauthorized, questionFailure{Message: errSignature.Error()}, false
	}
	status = http.StatusInternalServerError
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		status = http.StatusServiceUnavailable
	}
	failed = questionFailure{Message: what + " could not be read", ErrorID: newErrorID()}
	logger.Warn("remote: a question could not be answered: "+failed.Message, slog.String("error_id", failed.ErrorID), slog.String("gid", gid),
		slog.String("error", wire.Clip(err.Error(), maxLogged)))
	return status, failed, true
}

// checkQuestion returns why a request is not a valid question.
func checkQuestion(r *http.Request, h head, method string) error {
	gid, log := h.query["gid"], h.query[wire.Caller]
	switch {
	case r.Method != method:
		return refuse(http.StatusMethodNotAllowed, "the question is asked with %s", method)
	case h.id == "":
		return refuse(http.StatusBadRequest, "the header %s is missing", headerRequest)
	case r.ContentLength != 0:
		return refuse(http.StatusBadRequest, "a question has no body")
	case len(gid) != 1 || len(log) != 1 || log[0] == "":
		return refuse(http.StatusBadRequest, "the query must name gid and %s once", wire.Caller)
	}
	if err := errors.Join(barrier.ValidateGID(gid[0]), wire.CheckCaller(log[0])); err != nil {
		return refuse(http.StatusBadRequest, "%s", wire.Clip(err.Error(), 400))
	}
	return nil
}
