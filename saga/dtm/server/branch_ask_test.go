package server

import (
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// A branch without a query_prepared does not answer a question with yes.
func TestQuestionWithoutURL(t *testing.T) {
	t.Parallel()
	err := (&caller{}).Call(t.Context(), saga.Call{GID: "a", BranchID: "01", Op: barrier.Ask, Payload: []byte(`{"type":"msg"}`)})
	if err == nil || !strings.Contains(err.Error(), "query_prepared") {
		t.Errorf("%v", err)
	}
}
