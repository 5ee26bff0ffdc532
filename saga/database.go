package saga

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/localwork"
)

// NewDatabase returns a kind of branch for the LocalWork of transactions in db, which is
// another database than the engine's own. It is an action. Register it, and name its kind in
// LocalWorkIn of [Options]. Install the schema in db with package schema: the barrier row of
// the work is there.
//
// Only the process of Execute has the work. In another process, a Try of this branch fails,
// unless it was committed before.
func NewDatabase(kind string, db *gorm.DB) Branch {
	return NewLocal(kind, encodeNothing, Local{Database: db, Work: runLocalWork}).AsAction()
}

func encodeNothing(input any) ([]byte, error) {
	if input != nil {
		return nil, fmt.Errorf("the input is a %T, but this kind is a database for LocalWork, without an input", input)
	}
	return []byte("{}"), nil
}

var errNoWork = RejectCode(CodeGone, errors.New("its LocalWork is in another process, or was not given: execute the plan with LocalWork and LocalWorkIn"))

func runLocalWork(ctx context.Context, tx *gorm.DB, call Call) error {
	work := localwork.Of(ctx, call.GID)
	if work == nil {
		return errNoWork
	}
	return work(ctx, tx)
}
